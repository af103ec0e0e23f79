import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import { describe, expect, it } from 'vitest';
import { encodeKeyPair, generateKeyPair, publicPoint } from '../../../src/context/keys.ts';
import { connect, outputOf } from '../../../src/guest/session/connection.ts';
import { KEY_TYPES } from '../../../src/node-file/config.ts';
import { startSshServer } from '../../support/ssh-server.ts';

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

describe.each(KEY_TYPES)('a pair of the kind %s', (type) => {
  it('is read by OpenSSH and by dropbear, with the public key that goes with it', () => {
    const folder = mkdtempSync(join(tmpdir(), 'vmbatch-keys-'));
    try {
      const pair = generateKeyPair(type);
      const key = join(folder, 'key');
      writeFileSync(key, pair.privateKey, { mode: 0o600 });
      const options = { encoding: 'utf8' as const, stdio: 'pipe' as const };
      expect(execFileSync('ssh-keygen', ['-y', '-f', key], options).trim()).toBe(pair.publicKey);
      execFileSync('dropbearconvert', ['openssh', 'dropbear', key, `${key}.db`], options);
      const said = execFileSync('dropbearkey', ['-y', '-f', `${key}.db`], options);
      expect(said).toContain(`${pair.publicKey} `);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('lets the node into a guest that knows no other, and tells that guest from others', async () => {
    const server = await startSshServer('/bin/sh', type);
    try {
      const options = {
        ...{ host: '127.0.0.1', port: server.port, user: 'u', privateKey: server.userKey.privateKey },
        ...{ hostKey: server.hostKey, timeoutMs: 10_000, heartbeatMs: 10_000 },
      };
      const session = await connect(options);
      const { output } = await outputOf(await session.exec('echo here'));
      expect(output).toBe('here\n');
      session.close();
      const other = { ...options, hostKey: generateKeyPair(type).publicKey };
      await expect(connect(other)).rejects.toMatchObject({ code: 'host-key-mismatch' });
    } finally {
      await server.close();
    }
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
