// `image verify`: whether an image is what the node file says, byte for byte and by its makers' signature.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { ImageConfig, NodeConfig } from '../../config/node-config.ts';
import { VmbatchError } from '../../util/errors.ts';
import { checkTemplateImage } from '../overlay.ts';
import { verifySignature } from './signature.ts';

/** Lower-case hexadecimal SHA-256 of a file, of whatever size. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk);
  return hash.digest('hex');
}

/** Checks all that can be checked of an image.
 * @returns what was found good, in words; empty if the node file gives neither hash nor signature
 * @throws VmbatchError `node`: `image-changed`, `image-signature`, or what `checkTemplateImage` throws */
export async function verifyImage(
  image: ImageConfig,
  signatures: NodeConfig['signatures'],
): Promise<string[]> {
  checkTemplateImage(image.name, image.path, image.format);
  if (image.boot.type === 'kernel')
    for (const path of [image.boot.kernel, image.boot.initrd])
      await sha256Of(path).catch(rethrowAbsent(image, path));
  const good: string[] = [];
  if (image.sha256 !== undefined) {
    const found = await sha256Of(image.path);
    if (found !== image.sha256)
      throw new VmbatchError({
        fault: 'node',
        code: 'image-changed',
        message: `image ${image.name}: ${image.path} has the SHA-256 ${found}, the node file says ${image.sha256}`,
        hint: 'fetch it again, or correct sha256 in the node file if the new image is meant',
      });
    good.push('SHA-256');
  }
  if (image.signed) {
    const { subject } = await verifySignature(image.path, signatures);
    good.push(`signature of ${subject}`);
  }
  return good;
}

function rethrowAbsent(image: ImageConfig, path: string) {
  return (error: unknown): never => {
    throw new VmbatchError({
      fault: 'node',
      code: 'image-absent',
      message: `image ${image.name}: ${path} cannot be read`,
      hint: 'put the file there, or correct boot in the node file',
      cause: error,
    });
  };
}
