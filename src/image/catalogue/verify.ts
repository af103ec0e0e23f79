// Whether an image is what the node file says, byte for byte, with all that it stands on, and by its makers'
// signature.

import { checkTemplateImage } from '../../guest/disk/overlay.ts';
import type { ImageConfig, NodeConfig } from '../../node-file/config.ts';
import type { ErrorCode } from '../../util/error-codes.ts';
import { VmbatchError } from '../../util/errors.ts';
import { imageFiles } from '../chain.ts';
import { lookAtSha256, rememberedSha256, sha256Of } from '../hashes.ts';
import { verifySignature } from './signature.ts';

/** A file of an image, and what it must be. */
interface Wanted {
  path: string;
  sha256: string;
}

/** `image verify`: reads all of it.
 * @param state where hashes are remembered; undefined: nowhere
 * @returns what was found good, in words; empty if the node file gives neither hash nor signature
 * @throws VmbatchError `node`: `image-changed`, `image-chain`, `image-signature`, or what
 * `checkTemplateImage` throws */
export async function verifyImage(
  image: ImageConfig,
  signatures: NodeConfig['signatures'],
  state?: string,
): Promise<string[]> {
  checkTemplateImage(image.name, image.path, image.format);
  const files = imageFiles(image);
  if (image.boot.type === 'kernel')
    for (const path of [image.boot.kernel, image.boot.initrd])
      await sha256Of(path).catch(rethrowAbsent(image, path));
  const good: string[] = [];
  const wanted = wantedOf(image);
  for (const { path, sha256 } of wanted) compare(image, path, await lookAtSha256(state, path), sha256);
  if (wanted.length > 0) good.push(wanted.length === 1 ? 'SHA-256' : `SHA-256 of ${wanted.length} files`);
  if (image.signed) {
    if (files.length > 1)
      throw chainError(
        image,
        `its signature says nothing of ${files.slice(1).join(', ')}, on which it stands`,
      );
    const { subject } = await verifySignature(image.path, signatures);
    good.push(`signature of ${subject}`);
  }
  return good;
}

/** How much is known of the hashes of an image without reading it.
 * @returns `none`: the node file gives no hash; `good`: all files are what they were when they were last
 * read, and that is right; `unknown`: somebody must look
 * @throws VmbatchError as {@link verifyImage} */
export function knownHashes(state: string, image: ImageConfig): 'none' | 'good' | 'unknown' {
  let unknown = false;
  const wanted = wantedOf(image);
  for (const { path, sha256 } of wanted) {
    const known = rememberedSha256(state, path);
    if (known === undefined) unknown = true;
    else compare(image, path, known, sha256);
  }
  return wanted.length === 0 ? 'none' : unknown ? 'unknown' : 'good';
}

/** Before a guest starts: reads what has changed since it was last read, or what nobody has read on this
 * node.
 * @throws VmbatchError as {@link verifyImage}; `image-unread` if time is over before it is read */
export async function mustBeGood(state: string, image: ImageConfig, signal: AbortSignal): Promise<void> {
  for (const { path, sha256 } of wantedOf(image)) {
    const found = rememberedSha256(state, path) ?? (await lookInTime(state, image, path, signal));
    compare(image, path, found, sha256);
  }
}

async function lookInTime(state: string, image: ImageConfig, path: string, signal: AbortSignal) {
  try {
    return await lookAtSha256(state, path, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new VmbatchError({
      fault: 'node',
      code: 'image-unread',
      message: `image ${image.name}: there was no time to read ${path}, of which this node does not know the SHA-256`,
      hint: `read it once, outside of a job: vmbatch image verify ${image.name}`,
      cause: error,
    });
  }
}

/** What the node file says of the files of an image.
 * @throws VmbatchError `node`: `image-chain` if it says nothing of one of them */
function wantedOf(image: ImageConfig): Wanted[] {
  const said = image.backing ?? [];
  if (image.sha256 === undefined && said.length === 0) return [];
  const [, ...below] = imageFiles(image);
  const unsaid = below.find((file) => !said.some(({ path }) => path === file));
  if (image.sha256 !== undefined && unsaid !== undefined)
    throw chainError(image, `it stands on ${unsaid}, of which the node file does not say the SHA-256`);
  const idle = said.find(({ path }) => !below.includes(path));
  if (idle !== undefined)
    throw chainError(image, `it does not stand on ${idle.path}, as the node file says`, 'image-changed');
  return [...(image.sha256 === undefined ? [] : [{ path: image.path, sha256: image.sha256 }]), ...said];
}

function compare(image: ImageConfig, path: string, found: string, wanted: string): void {
  if (found === wanted) return;
  const stands = path === image.path ? '' : ', on which it stands,';
  throw new VmbatchError({
    fault: 'node',
    code: 'image-changed',
    message: `image ${image.name}: ${path}${stands} has the SHA-256 ${found}, the node file says ${wanted}`,
    hint: 'fetch it again, or correct sha256 in the node file if the new image is meant',
  });
}

function chainError(image: ImageConfig, problem: string, code: ErrorCode = 'image-chain'): VmbatchError {
  return new VmbatchError({
    fault: 'node',
    code,
    message: `image ${image.name}: ${problem}`,
    hint: 'add it again (vmbatch image remove, image add), or make one file of it with qemu-img convert',
  });
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
