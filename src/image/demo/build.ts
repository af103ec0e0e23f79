// Building the demo guest's image: packages in, a kernel, an initramfs, a disk and a manifest out.
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import tmp from 'tmp';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import type { Run } from '../../util/processes/run.ts';
import { buildDisk, DISK_BYTES } from './disk.ts';
import {
  BUILDER_VERSION,
  hashFile,
  hashInputs,
  IMAGE_FILES,
  type ImageManifest,
  KERNEL_PARAMETERS,
  MANIFEST_NAME,
  readManifest,
  whyOutdated,
} from './manifest.ts';
import { readModules } from './modules.ts';
import {
  downloadPackages,
  GUEST_PACKAGES,
  type ImagePackage,
  kernelRelease,
  unpackPackages,
} from './packages.ts';
import { buildInitramfs, buildRoot, INITRAMFS_MODULES, ROOT_MODULES } from './rootfs.ts';

export interface BuildRequest {
  /** Where the image is to be: made if absent; replaced as a whole, so it must hold nothing else. */
  directory: string;
  /** Build even if the image is up to date, with the packages that apt offers now. */
  force: boolean;
  run: Run;
  /** Told about each step, one short line. */
  progress?: (line: string) => void;
}

export interface BuildResult {
  directory: string;
  built: boolean;
  manifest: ImageManifest;
}

/** Makes sure that an up-to-date image is in `directory`. Several may do so at once: each builds in a
 * directory of its own and puts it in place by renaming.
 * @throws VmbatchError `node`: not root, a program or package missing, the directory holds other files. */
export async function buildDemoImage(request: BuildRequest): Promise<BuildResult> {
  const directory = resolve(request.directory);
  refuseForeignFiles(directory);
  const reason = request.force ? 'asked to' : whyOutdated(directory);
  const known = readManifest(directory);
  if (reason === undefined && known !== undefined) return { directory, built: false, manifest: known };

  if (process.getuid?.() !== 0) {
    throw new VmbatchError({
      fault: 'node',
      code: 'not-root',
      message: 'building an image needs root: the files in it belong to root',
    });
  }
  const progress = request.progress ?? (() => {});
  progress(`building (${reason})`);
  return await withPlainUmask(() => buildBeside(request.run, directory, progress));
}

/** Builds that go on in this process: the umask is the whole process's. */
let plainUmaskUsers = 0;
let umaskBefore = 0;

/** Whatever root's umask is, the image must be readable by QEMU's user, and what is in it by the guest's
 * users. */
async function withPlainUmask<T>(work: () => Promise<T>): Promise<T> {
  if (plainUmaskUsers++ === 0) umaskBefore = process.umask(0o022);
  try {
    return await work();
  } finally {
    if (--plainUmaskUsers === 0) process.umask(umaskBefore);
  }
}

async function buildBeside(
  run: Run,
  directory: string,
  progress: (line: string) => void,
): Promise<BuildResult> {
  const parent = dirname(directory);
  mkdirSync(parent, { recursive: true });
  // Beside the result: a rename must not cross file systems.
  const { name: work, removeCallback: removeWork } = tmp.dirSync({
    tmpdir: parent,
    prefix: `.${basename(directory)}`,
    unsafeCleanup: true,
  });
  try {
    const result = join(work, 'image');
    mkdirSync(result);
    const manifest = await buildInto(run, work, result, progress);
    replaceDirectory(result, directory, join(work, 'old'));
    return { directory, built: true, manifest };
  } finally {
    removeWork();
  }
}

async function buildInto(
  run: Run,
  work: string,
  result: string,
  progress: (line: string) => void,
): Promise<ImageManifest> {
  const downloads = join(work, 'packages');
  const kernelPackage = await downloadPackages(run, downloads, progress);
  const release = kernelRelease(kernelPackage);
  const tree = join(work, 'tree');
  const packages = await unpackPackages(run, [...GUEST_PACKAGES, kernelPackage], downloads, tree);

  progress('putting the guest together');
  const moduleDirectory = join(tree, 'lib/modules', release);
  const root = join(work, 'root');
  mkdirSync(root);
  await buildRoot(run, tree, root, release, readModules(moduleDirectory, ROOT_MODULES));
  copyFileSync(join(tree, 'boot', `vmlinuz-${release}`), join(result, 'vmlinuz'));
  writeFileSync(
    join(result, 'initrd.img'),
    buildInitramfs(tree, readModules(moduleDirectory, INITRAMFS_MODULES)),
  );

  progress('writing the disk');
  await buildDisk(run, root, join(result, 'template.qcow2'));
  const manifest = describe(result, release, packages);
  writeFileSync(join(result, MANIFEST_NAME), `${JSON.stringify(manifest, null, 2)}\n`);
  for (const name of readdirSync(result)) chmodSync(join(result, name), 0o644);
  return manifest;
}

function describe(result: string, release: string, packages: ImagePackage[]): ImageManifest {
  const file = (name: (typeof IMAGE_FILES)[number]) => {
    const path = join(result, name);
    return { sha256: hashFile(path), bytes: statSync(path).size };
  };
  return {
    version: 1,
    builder: BUILDER_VERSION,
    inputs: hashInputs(packages),
    built: new Date().toISOString(),
    kernelRelease: release,
    kernelParameters: KERNEL_PARAMETERS,
    virtualBytes: DISK_BYTES,
    packages,
    files: {
      vmlinuz: file('vmlinuz'),
      'initrd.img': file('initrd.img'),
      'template.qcow2': file('template.qcow2'),
    },
  };
}

/** The directory is replaced as a whole, so that kernel, modules and disk are always of one build; whatever
 * else somebody keeps in it would be lost. */
function refuseForeignFiles(directory: string): void {
  if (!existsSync(directory)) return;
  const own = new Set<string>([...IMAGE_FILES, MANIFEST_NAME]);
  const foreign = readdirSync(directory).filter((name) => !own.has(name));
  if (foreign.length === 0) return;
  throw new VmbatchError({
    fault: 'node',
    code: 'directory-in-use',
    message: `${directory} holds more than an image: ${foreign.slice(0, 3).join(', ')}`,
    hint: 'name a directory that is empty or does not exist',
  });
}

function replaceDirectory(from: string, to: string, old: string): void {
  for (let attempt = 0; ; attempt++) {
    try {
      renameSync(from, to);
      return;
    } catch (error) {
      // Another build may come between the two renames; then its image has to make way as well.
      if ((errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'EEXIST') || attempt === 10) throw error;
    }
    try {
      renameSync(to, `${old}${attempt}`);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') throw error;
    }
  }
}
