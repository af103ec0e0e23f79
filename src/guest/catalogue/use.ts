// Which jobs of this node use an image: no such image may be removed.
import { join } from 'node:path';
import type { ImageConfig } from '../../config/node-config.ts';
import { layerPaths } from '../layer/backing.ts';
import { overlaysOf } from '../layer/prepare.ts';
import { readBackingFile } from '../overlay.ts';

/** Ids of the jobs whose disks stand on an image or its layers. The disk itself says so: records may be older than the file. */
export function jobsOn(state: string, image: ImageConfig): string[] {
  const layers = `${layerPaths(state, image.name).directory}/`;
  return overlaysOf(state)
    .filter(({ backing }) => backing === image.path || backing.startsWith(layers))
    .map(({ jobId }) => jobId)
    .sort();
}

/** Names of other images that need a file: as their own, or as what they stand on. */
export function imagesOn(images: Iterable<ImageConfig>, path: string, except: string): string[] {
  const names: string[] = [];
  for (const image of images) {
    if (image.name === except) continue;
    // A name without a slash at its beginning is relative to the file that it stands in.
    const backing = image.format === 'qcow2' ? readBackingFile(image.path) : undefined;
    const absolute = backing?.startsWith('/') === false ? join(image.path, '..', backing) : backing;
    if (image.path === path || absolute === path) names.push(image.name);
  }
  return names;
}
