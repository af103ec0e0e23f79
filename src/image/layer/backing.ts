// What a job's disk stands on: the template image, or the layer that `image prepare` made on it for this
// node.
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import type { ImageConfig } from '../../node-file/config.ts';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import { isAsItWas } from '../chain.ts';

const LAYER = z.object({
  version: z.literal(1),
  /** The image that it stands on, as it was. */
  base: z.object({ path: z.string(), size: z.number(), mtimeMs: z.number() }),
  /** What that stands on in its turn. */
  below: z
    .array(z.object({ path: z.string(), size: z.number(), mtimeMs: z.number(), inode: z.number() }))
    .prefault([]),
  /** The file beside the manifest: each layer has a name of its own, since jobs may still stand on the one
   * before. */
  disk: z.string().regex(/^layer-[a-z0-9]+\.qcow2$/),
  /** SHA-256 of all that was put in. */
  contents: z.string(),
  madeAt: z.number(),
});
export type Layer = z.infer<typeof LAYER>;

export interface Backing {
  path: string;
  format: 'qcow2' | 'raw';
}

/** Where the layer of an image is on this node. */
export function layerPaths(state: string, image: string) {
  const directory = join(state, 'layers', image);
  return { directory, manifest: join(directory, 'layer.json') };
}

/** The layer of an image; undefined if there is none. */
export function readLayer(state: string, image: string): Layer | undefined {
  try {
    return LAYER.parse(JSON.parse(readFileSync(layerPaths(state, image).manifest, 'utf8')));
  } catch {
    return undefined; // none, or half of one: `image prepare` makes it anew
  }
}

/** Whether an image, with all that it stands on, is what it was when a layer was made on it. */
export function isUnchanged({ base, below }: Pick<Layer, 'base' | 'below'>, path: string): boolean {
  const stats = statSync(path, { throwIfNoEntry: false });
  return (
    stats !== undefined &&
    base.path === path &&
    stats.size === base.size &&
    stats.mtimeMs === base.mtimeMs &&
    below.every(isAsItWas)
  );
}

/** What the overlays of jobs are to stand on. Costs two calls.
 * @throws VmbatchError `node` (`image-changed`): the layer is of another image than the one that is there
 * now */
export function resolveBacking(state: string, image: ImageConfig): Backing {
  const layer = readLayer(state, image.name);
  if (layer === undefined) return { path: image.path, format: image.format };
  if (!isUnchanged(layer, image.path))
    throw new VmbatchError({
      fault: 'node',
      code: 'image-changed',
      message: `image ${image.name}: ${changedOf(layer, image.path)} is not what its layer on this node was made on`,
      hint: `make the layer anew: vmbatch image prepare ${image.name}`,
    });
  const disk = join(layerPaths(state, image.name).directory, layer.disk);
  try {
    statSync(disk);
  } catch (error) {
    throw new VmbatchError({
      fault: 'node',
      code: 'image-absent',
      message: `image ${image.name}: its layer ${disk} cannot be read (${errnoOf(error)})`,
      hint: `make it anew: vmbatch image prepare ${image.name}`,
      cause: error,
    });
  }
  return { path: disk, format: 'qcow2' };
}

/** Which of the files has changed. */
function changedOf({ below }: Layer, path: string): string {
  return below.find((file) => !isAsItWas(file))?.path ?? path;
}
