import { execFileSync } from 'node:child_process';
import { createSign, randomBytes } from 'node:crypto';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { verifySignature } from '../../../../src/image/catalogue/signature.ts';
import { patch } from '../layer/disks.ts';

const BLOCK = 32 * 1024;
const SIGNER = 'signer.example.org';
let folder: string;
let authorities: string;

function openssl(...args: string[]): void {
  execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
}

/** A key and a certificate of an authority; `issuer` undefined: it signs itself. */
function certify(
  name: string,
  subject: string,
  issuer: string | undefined,
  isAuthority: boolean,
  days = '30',
): void {
  writeFileSync(
    join(folder, `${name}.ext`),
    `basicConstraints=critical,CA:${isAuthority ? 'TRUE' : 'FALSE'}\n`,
  );
  openssl(
    'req',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    `${name}.key`,
    '-subj',
    subject,
    '-out',
    `${name}.csr`,
  );
  openssl(
    ...[
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-days',
      days,
      '-extfile',
      `${name}.ext`,
      '-out',
      `${name}.pem`,
    ],
    ...(issuer === undefined
      ? ['-signkey', `${name}.key`]
      : ['-CA', `${issuer}.pem`, '-CAkey', `${issuer}.key`, '-CAcreateserial']),
  );
}

function padded(value: object): Buffer {
  const block = Buffer.alloc(BLOCK);
  block.write(JSON.stringify(value));
  return block;
}

function signedImage(name: string, signer = 'leaf'): string {
  const path = join(folder, name);
  const body = Buffer.concat([randomBytes(100_000), padded({ name: 'an image', release: '5.1' })]);
  const signature = createSign('RSA-SHA256')
    .update(body)
    .sign(readFileSync(join(folder, `${signer}.key`)));
  writeFileSync(path, body);
  const certificate = readFileSync(join(folder, `${signer}.pem`)).toString('base64');
  appendFileSync(path, padded({ certificate, signature: signature.toString('base64') }));
  return path;
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmbatch-signature-'));
  authorities = join(folder, 'authorities');
  mkdirSync(authorities);
  certify('root', '/O=Example/CN=Example Root', undefined, true);
  certify('middle', '/O=Example/CN=Example Issuer', 'root', true);
  certify('leaf', `/O=Example/CN=${SIGNER}`, 'middle', false);
  certify('other', '/O=Example/CN=other.example.org', 'middle', false);
  certify('self', `/O=Elsewhere/CN=${SIGNER}`, undefined, false);
  // Issued by a certificate that is no authority's.
  certify('forged', `/O=Example/CN=${SIGNER}`, 'other', false);
  const pem = (name: string) => readFileSync(join(folder, `${name}.pem`), 'utf8');
  // As they come: several in a file, text between, and files that hold something else.
  writeFileSync(
    join(authorities, 'bundle.pem'),
    `Example Root\n${pem('root')}\nExample Issuer\n${pem('middle')}`,
  );
  writeFileSync(join(authorities, '01234567.0'), pem('other'));
  writeFileSync(
    join(authorities, 'broken.pem'),
    '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
  );
  writeFileSync(join(authorities, 'policy.txt'), 'none of this\n');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const verify = (path: string, now?: Date) =>
  verifySignature(path, { caDirectory: authorities, signer: SIGNER }, now);

describe('the signature at the end of an image', () => {
  it('holds through an issuer up to a root of the directory', async () => {
    await expect(verify(signedImage('good'))).resolves.toEqual({
      subject: `O=Example, CN=${SIGNER}`,
      description: { name: 'an image', release: '5.1' },
    });
  });

  it('breaks with one changed byte of the image or of its description', async () => {
    for (const offset of [0, 50_000, 99_999, 100_010]) {
      const path = signedImage('changed');
      const byte = readFileSync(path)[offset] ?? 0;
      patch(path, [offset, Buffer.from([byte ^ 1])]);
      await expect(verify(path)).rejects.toThrow('is not what signer.example.org has signed');
    }
  });

  it.each([
    ['other', 'is signed by O=Example, CN=other.example.org, and must be by signer.example.org'],
    ['self', `no authority in`],
    ['forged', 'no authority in'],
  ])('of %s is refused', async (signer, why) => {
    await expect(verify(signedImage('refused', signer))).rejects.toMatchObject({
      code: 'image-signature',
      message: expect.stringContaining(why),
    });
  });

  it('is refused before and after the time of the certificate', async () => {
    const path = signedImage('timed');
    await expect(verify(path, new Date('2001-01-01'))).rejects.toThrow('is valid from');
    await expect(verify(path, new Date('2999-01-01'))).rejects.toThrow('is valid from');
  });

  it('is missed where there is none, and where the image was cut', async () => {
    const path = signedImage('cut');
    truncateSync(path, 100_000 + BLOCK);
    await expect(verify(path)).rejects.toThrow('has no signature at its end');
    truncateSync(path, 100);
    await expect(verify(path)).rejects.toThrow('has no signature: it is shorter than one');
    const bad = signedImage('bad');
    patch(bad, [
      100_000 + BLOCK,
      padded({ certificate: Buffer.from('x').toString('base64'), signature: 'AAAA' }),
    ]);
    await expect(verify(bad)).rejects.toThrow('the certificate of its signature cannot be read');
  });

  it('needs a directory of authorities', async () => {
    const missing = verifySignature(signedImage('alone'), {
      caDirectory: join(folder, 'none'),
      signer: SIGNER,
    });
    await expect(missing).rejects.toThrow('(signatures.ca_directory) cannot be read (ENOENT)');
  });
});
