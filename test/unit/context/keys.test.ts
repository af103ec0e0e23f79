import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import { describe, expect, it } from 'vitest';
import { encodeKeyPair, generateKeyPair, publicPoint } from '../../../src/context/keys.ts';

describe('generateKeyPair', () => {
  it('makes private keys that OpenSSH reads, with the public key that goes with them', () => {
    const folder = mkdtempSync(join(tmpdir(), 'vmbatch-keys-'));
    try {
      const pair = generateKeyPair();
      writeFileSync(join(folder, 'key'), pair.privateKey, { mode: 0o600 });
      const said = execFileSync('ssh-keygen', ['-y', '-f', join(folder, 'key')], { encoding: 'utf8' });
      expect(said.trim()).toBe(pair.publicKey);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('is different each time', () => {
    expect(generateKeyPair().publicKey).not.toBe(generateKeyPair().publicKey);
  });
});

describe('publicPoint', () => {
  it('gives the public half of the first test vector of RFC 8032', () => {
    const secret = Buffer.from('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', 'hex');
    expect(publicPoint(secret).toString('hex')).toBe(
      'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    );
  });
});

describe('encodeKeyPair', () => {
  it('keeps leading zero bytes of either half', () => {
    // A public key that begins with a zero byte comes once in 256; found by trying, so that it is a real one.
    for (let tries = 0; ; tries++) {
      const seed = Buffer.alloc(32);
      seed.writeUInt32BE(tries, 28);
      const point = publicPoint(seed);
      if (point[0] !== 0) continue;
      const pair = encodeKeyPair(seed, point, Buffer.alloc(4));
      const parsed = ssh2.utils.parseKey(pair.privateKey);
      if (parsed instanceof Error) throw parsed;
      expect(parsed.getPublicSSH().toString('base64')).toBe(pair.publicKey.split(' ')[1]);
      const signature = parsed.sign('text');
      expect(parsed.verify('text', signature as Buffer)).toBe(true);
      return;
    }
  });
});
