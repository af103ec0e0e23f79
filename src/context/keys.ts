// Key pairs for one job: one with which its starter logs in, one by which it knows the guest.
//
// Encoded here from Node's own keys: ssh2's generator drops leading zero bytes, so that about one of 250 of its
// ed25519 keys can be read by nobody (mscdex/ssh2 issue 1513). And the prologue need not load ssh2.
import { generateKeyPairSync, randomBytes } from 'node:crypto';

export interface KeyPair {
  /** A private key file in OpenSSH's format (`openssh-key-v1`, not encrypted). */
  privateKey: string;
  /** `ssh-ed25519 BASE64`, without a comment. */
  publicKey: string;
}

const TYPE = 'ssh-ed25519';
/** Unencrypted private keys are padded to this many bytes. */
const BLOCK = 8;

/** A fresh ed25519 pair. */
export function generateKeyPair(): KeyPair {
  const { d, x } = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
  return encodeKeyPair(Buffer.from(d ?? '', 'base64url'), Buffer.from(x ?? '', 'base64url'), randomBytes(4));
}

/** The pair's two texts, from its 32 private and 32 public bytes. `check` is four arbitrary bytes that stand
 * twice in the file, by which a reader of an encrypted one knows that it had the right passphrase. */
export function encodeKeyPair(secret: Buffer, point: Buffer, check: Buffer): KeyPair {
  const publicBlob = Buffer.concat([field(TYPE), field(point)]);
  const secrets = Buffer.concat([check, check, publicBlob, field(Buffer.concat([secret, point])), field('')]);
  const padding = Buffer.from(
    Array.from({ length: (BLOCK - (secrets.length % BLOCK)) % BLOCK }, (_, i) => i + 1),
  );
  const keyCount = Buffer.from([0, 0, 0, 1]);
  const file = Buffer.concat([
    Buffer.from('openssh-key-v1\0'),
    field('none'),
    field('none'),
    field(''),
    keyCount,
    field(publicBlob),
    field(Buffer.concat([secrets, padding])),
  ]);
  const lines = file
    .toString('base64')
    .replace(/(.{70})/g, '$1\n')
    .trimEnd();
  return {
    privateKey: `-----BEGIN OPENSSH PRIVATE KEY-----\n${lines}\n-----END OPENSSH PRIVATE KEY-----\n`,
    publicKey: `${TYPE} ${publicBlob.toString('base64')}`,
  };
}

/** SSH's `string`: four bytes of length, then the bytes. */
function field(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
