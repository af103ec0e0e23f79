// The signature that CernVM images end with: 64 KiB that hypervisors ignore, two zero-padded JSON objects of
// 32 KiB each. The second holds a certificate and an RSA-SHA256 signature of everything before it.
import { createVerify, X509Certificate } from 'node:crypto';
import { createReadStream, readdirSync, readFileSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { errnoOf, VmbatchError } from '../../util/errors.ts';

const BLOCK = 32 * 1024;
const MAX_CHAIN = 8;

const SIGNATURE_BLOCK = z.object({
  certificate: z.base64(),
  signature: z.base64(),
});

export interface Signer {
  caDirectory: string;
  /** The common name that the certificate must have. */
  signer: string;
}

/** The text of an error says why an image is not to be trusted. */
function refuse(why: string, cause?: unknown): VmbatchError {
  return new VmbatchError({
    fault: 'node',
    code: 'image-signature',
    message: why,
    hint: 'fetch the image again from where its makers offer it; check signatures.ca_directory and signatures.signer',
    cause,
  });
}

/** Checks the signature of an image.
 * @returns the image's own description of itself, and the subject of who signed it
 * @throws VmbatchError `node` (`image-signature`) saying why it does not hold */
export async function verifySignature(
  path: string,
  { caDirectory, signer }: Signer,
  now = new Date(),
): Promise<{ subject: string; description: unknown }> {
  const { size } = statSync(path);
  if (size < 2 * BLOCK) throw refuse(`${path} has no signature: it is shorter than one`);
  const [first, second] = await readTrailer(path, size);
  const description = parseBlock(first);
  const block = SIGNATURE_BLOCK.safeParse(parseBlock(second));
  if (!block.success) throw refuse(`${path} has no signature at its end`);
  const certificate = parseCertificate(Buffer.from(block.data.certificate, 'base64'), path);
  if (commonName(certificate) !== signer)
    throw refuse(
      `${path} is signed by ${oneLine(certificate.subject)}, and must be by ${signer} (signatures.signer)`,
    );
  checkChain(certificate, loadAuthorities(caDirectory), caDirectory, now);
  const verifier = createVerify('RSA-SHA256');
  for await (const chunk of createReadStream(path, { end: size - BLOCK - 1 })) verifier.update(chunk);
  if (!verifier.verify(certificate.publicKey, Buffer.from(block.data.signature, 'base64')))
    throw refuse(`${path} is not what ${signer} has signed: it was changed, or is incomplete`);
  return { subject: oneLine(certificate.subject), description };
}

async function readTrailer(path: string, size: number): Promise<[Buffer, Buffer]> {
  const file = await open(path, 'r');
  try {
    const trailer = Buffer.alloc(2 * BLOCK);
    await file.read(trailer, 0, trailer.length, size - trailer.length);
    return [trailer.subarray(0, BLOCK), trailer.subarray(BLOCK)];
  } finally {
    await file.close();
  }
}

function parseBlock(block: Buffer): unknown {
  const end = block.indexOf(0);
  try {
    return JSON.parse(block.toString('utf8', 0, end === -1 ? undefined : end));
  } catch {
    return undefined;
  }
}

/** In PEM or DER. */
function parseCertificate(data: Buffer, path: string): X509Certificate {
  try {
    return new X509Certificate(data);
  } catch (error) {
    throw refuse(`${path}: the certificate of its signature cannot be read`, error);
  }
}

/** Follows issuers up to one that signed itself, all of them in the directory and valid now. Revocation is
 * not looked at. */
function checkChain(
  leaf: X509Certificate,
  authorities: readonly X509Certificate[],
  directory: string,
  now: Date,
): void {
  let certificate = leaf;
  for (let depth = 0; depth < MAX_CHAIN; depth++) {
    const subject = oneLine(certificate.subject);
    if (now < new Date(certificate.validFrom) || now > new Date(certificate.validTo))
      throw refuse(
        `the certificate of ${subject} is valid from ${certificate.validFrom} to ${certificate.validTo}`,
      );
    if (depth > 0 && certificate.verify(certificate.publicKey)) return;
    const issuer = authorities.find(
      (authority) =>
        authority.ca && certificate.checkIssued(authority) && certificate.verify(authority.publicKey),
    );
    if (issuer === undefined)
      throw refuse(
        `no authority in ${directory} has issued the certificate of ${subject} (its issuer: ${oneLine(certificate.issuer)})`,
      );
    certificate = issuer;
  }
  throw refuse(`the chain of certificates above ${oneLine(leaf.subject)} does not end`);
}

function loadAuthorities(directory: string): X509Certificate[] {
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch (error) {
    throw refuse(`${directory} (signatures.ca_directory) cannot be read (${errnoOf(error)})`, error);
  }
  return names
    .filter((name) => /\.(pem|crt|[0-9])$/.test(name))
    .sort()
    .flatMap((name) => certificatesIn(join(directory, name)));
}

/** Others' directories hold all sorts of things: what is no certificate is passed over. */
function certificatesIn(path: string): X509Certificate[] {
  try {
    const text = readFileSync(path, 'latin1');
    const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
    return blocks.flatMap((block) => {
      try {
        return [new X509Certificate(block)];
      } catch {
        return [];
      }
    });
  } catch {
    return [];
  }
}

function commonName(certificate: X509Certificate): string | undefined {
  return /^CN=(.*)$/m.exec(certificate.subject)?.[1];
}

/** Node puts each part of a name on a line of its own. */
function oneLine(name: string): string {
  return name.trim().replaceAll('\n', ', ');
}
