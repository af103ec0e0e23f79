// What an image was made from, written beside it: by this a later build knows whether there is anything to
// do.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { resourcePath } from '../../util/program/resources.ts';
import { CONVERT_OPTIONS, DISK_BYTES, FILE_SYSTEM_OPTIONS } from './disk.ts';
import { GUEST_PACKAGES, type ImagePackage, KERNEL_METAPACKAGE } from './packages.ts';
import { GUEST_FILES, INITRAMFS_INIT, TREE_RECIPE } from './rootfs.ts';

/** To be raised whenever the builder makes something else of the same inputs. */
export const BUILDER_VERSION = 1;

export const MANIFEST_NAME = 'manifest.json';

/** The files of an image directory, besides the manifest. */
export const IMAGE_FILES = ['vmlinuz', 'initrd.img', 'template.qcow2'] as const;

/** Kernel parameters with which the image starts quickest. The console must stay: it is where a guest says
 * what went wrong. `no_timer_check`: under load an emulated timer fails the check, and the clock drifts.
 * `cryptomgr.notests` and `nokaslr` each save an emulated guest 0.1 to 0.2 s. */
export const KERNEL_PARAMETERS = 'console=ttyS0 quiet no_timer_check cryptomgr.notests nokaslr';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const manifestSchema = z.object({
  version: z.literal(1),
  builder: z.number(),
  /** Of everything that went in: equal inputs, equal hash. */
  inputs: sha256,
  built: z.iso.datetime(),
  kernelRelease: z.string(),
  kernelParameters: z.string(),
  virtualBytes: z.number(),
  packages: z.array(z.object({ name: z.string(), version: z.string(), sha256 })),
  files: z.object({
    vmlinuz: z.object({ sha256, bytes: z.number() }),
    'initrd.img': z.object({ sha256, bytes: z.number() }),
    'template.qcow2': z.object({ sha256, bytes: z.number() }),
  }),
});

export type ImageManifest = z.infer<typeof manifestSchema>;

/** What the builder makes of packages and our own files, as far as lists and options say it; the rest is
 * code, which `builder` stands for. */
export const RECIPE = {
  builder: BUILDER_VERSION,
  kernelParameters: KERNEL_PARAMETERS,
  kernelPackage: KERNEL_METAPACKAGE,
  packages: GUEST_PACKAGES,
  ...TREE_RECIPE,
  diskBytes: DISK_BYTES,
  fileSystemOptions: FILE_SYSTEM_OPTIONS,
  convertOptions: CONVERT_OPTIONS,
} as const;

/** The hash of all inputs: packages, our own files, and the builder itself. */
export function hashInputs(packages: readonly ImagePackage[], recipe: object = RECIPE): string {
  const hash = createHash('sha256');
  const add = (...parts: string[]) => hash.update(`${JSON.stringify(parts)}\n`);
  add('recipe', JSON.stringify(recipe));
  for (const { name, version, sha256: digest } of packages) add('package', name, version, digest);
  for (const [from, to, mode] of [...GUEST_FILES, [INITRAMFS_INIT, 'init', 0o755] as const])
    add('file', to, mode.toString(8), hashFile(resourcePath(`share/guest/${from}`)));
  return hash.digest('hex');
}

/** The manifest of an image directory, or undefined if there is none that this version can read. */
export function readManifest(directory: string): ImageManifest | undefined {
  try {
    return manifestSchema.parse(JSON.parse(readFileSync(join(directory, MANIFEST_NAME), 'utf8')));
  } catch {
    // Absent, cut off or of another version: in each case the image is built again.
    return undefined;
  }
}

/** Why the image in `directory` is not what a build would make from the packages it names; undefined if it
 * is. Asks neither apt nor the network: newer packages are taken only by a forced build. */
export function whyOutdated(directory: string): string | undefined {
  const manifest = readManifest(directory);
  if (manifest === undefined) return 'there is no image';
  if (manifest.inputs !== hashInputs(manifest.packages)) return 'what goes into it has changed';
  for (const name of IMAGE_FILES) {
    const path = join(directory, name);
    const expected = manifest.files[name];
    if (!existsSync(path)) return `${name} is missing`;
    if (statSync(path).size !== expected.bytes || hashFile(path) !== expected.sha256)
      return `${name} is damaged`;
  }
  return undefined;
}

/** SHA-256 of a file's content, lower-case hexadecimal. */
export function hashFile(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}
