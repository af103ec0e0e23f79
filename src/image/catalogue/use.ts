// Which jobs of this node use an image: no such image may be removed.
import type { ImageConfig } from '../../node-file/config.ts';
import { imageFiles } from '../chain.ts';
import { layerPaths } from '../layer/backing.ts';
import { overlaysOf } from '../layer/prepare.ts';

/** Ids of the jobs whose disks stand on an image or its layers. The disk itself says so: records may be older
 * than the file. */
export function jobsOn(state: string, image: ImageConfig): string[] {
  const layers = `${layerPaths(state, image.name).directory}/`;
  return overlaysOf(state)
    .filter(({ backing }) => backing === image.path || backing.startsWith(layers))
    .map(({ jobId }) => jobId)
    .sort();
}

/** Names of other images that need a file: as their own, or as what they stand on. */
export function imagesOn(images: Iterable<ImageConfig>, path: string, except: string): string[] {
  return [...images].filter((image) => image.name !== except && needs(image, path)).map(({ name }) => name);
}

function needs(image: ImageConfig, path: string): boolean {
  try {
    return imageFiles(image).includes(path);
  } catch {
    // Nothing can be said of it but what the node file says.
    return image.path === path || image.backing?.some((file) => file.path === path) === true;
  }
}
