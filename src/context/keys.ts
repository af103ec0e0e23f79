// Key pairs for one job: one with which its starter logs in, one by which it knows the guest.
//
// ed25519 where the guest's SSH server knows it; that of a guest in FIPS mode or of an old system knows
// others only.
//
// Encoded here from Node's own keys: ssh2's generator drops leading zero bytes, so that about one of 250 of
// its ed25519 keys can be read by nobody (mscdex/ssh2 issue 1513). And the prologue need not load ssh2.
import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import type { KeyType } from '../node-file/config.ts';

export interface KeyPair {
  /** A private key file that is not encrypted: in OpenSSH's format (`openssh-key-v1`), or as PEM for kinds
   * that are for servers which may not know that format. */
  privateKey: string;
  /** `ssh-ed25519 BASE64`, without a comment. */
  publicKey: string;
}

const TYPE = 'ssh-ed25519';
/** Unencrypted private keys are padded to this many bytes. */
const BLOCK = 8;

/** What stands before the 32 bytes of an ed25519 key in PKCS #8 (RFC 8410, section 7). */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');

/** A fresh pair. */
export function generateKeyPair(type: KeyType = 'ed25519'): KeyPair {
  return type === 'rsa' ? generateRsa() : type === 'ecdsa' ? generateEcdsa() : generateEd25519();
}

/** Its secret half is 32 random bytes by definition (RFC 8032, section 5.1.5). Not from
 * `generateKeyPairSync`: in Node 20 a garbage collection in the middle of an export frees the generator's
 * job, which then waits for ever for the lock on the key that the export holds. (The other kinds are encoded
 * inside the call, while the job is there.) */
function generateEd25519(): KeyPair {
  const secret = randomBytes(32);
  return encodeKeyPair(secret, publicPoint(secret), randomBytes(4));
}

/** Bits that FIPS 140 and OpenSSH's own limits allow. */
const RSA_BITS = 2048;
const SPKI = { type: 'spki', format: 'der' } as const;

function generateRsa(): KeyPair {
  const privateKeyEncoding = { type: 'pkcs1', format: 'pem' } as const;
  const pair = generateKeyPairSync('rsa', {
    modulusLength: RSA_BITS,
    publicKeyEncoding: SPKI,
    privateKeyEncoding,
  });
  const { e = '', n = '' } = jwkOf(pair.publicKey);
  return { privateKey: pair.privateKey, publicKey: publicLine('ssh-rsa', [integer(e), integer(n)]) };
}

function generateEcdsa(): KeyPair {
  const privateKeyEncoding = { type: 'sec1', format: 'pem' } as const;
  const pair = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: SPKI,
    privateKeyEncoding,
  });
  const { x = '', y = '' } = jwkOf(pair.publicKey);
  // Not compressed.
  const point = Buffer.concat([Buffer.from([4]), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
  return {
    privateKey: pair.privateKey,
    publicKey: publicLine('ecdsa-sha2-nistp256', [Buffer.from('nistp256'), point]),
  };
}

function jwkOf(publicKey: Buffer) {
  return createPublicKey({ key: publicKey, ...SPKI }).export({ format: 'jwk' });
}

/** SSH's `mpint`: a number whose first bit is its sign. */
function integer(text: string): Buffer {
  const bytes = Buffer.from(text, 'base64url');
  return (bytes[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes;
}

function publicLine(type: string, fields: readonly Buffer[]): string {
  return `${type} ${Buffer.concat([type, ...fields].map(field)).toString('base64')}`;
}

/** The 32 public bytes that belong to 32 private ones. */
export function publicPoint(secret: Buffer): Buffer {
  const key = createPrivateKey({
    key: Buffer.concat([PKCS8_PREFIX, secret]),
    format: 'der',
    type: 'pkcs8',
  });
  return Buffer.from(createPublicKey(key).export({ format: 'jwk' }).x ?? '', 'base64url');
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
