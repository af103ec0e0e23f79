import { execFileSync } from 'node:child_process';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import { describe, expect, it } from 'vitest';
import { encodeKeyPair, generateKeyPair } from '../../../src/context/keys.ts';

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

describe('encodeKeyPair', () => {
  it('keeps leading zero bytes of either half', () => {
    // A public key that begins with a zero byte comes once in 256; found by trying, so that it is a real one.
    for (let tries = 0; ; tries++) {
      const seed = Buffer.alloc(32);
      seed.writeUInt32BE(tries, 28);
      const prefix = Buffer.from('302e020100300506032b657004220420', 'hex');
      const key = createPrivateKey({ key: Buffer.concat([prefix, seed]), format: 'der', type: 'pkcs8' });
      const point = Buffer.from(createPublicKey(key).export({ format: 'jwk' }).x ?? '', 'base64url');
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
