// `image prepare`: a qcow2 layer on a stock image with our guest service in it, once per image and node.
// Jobs' overlays stand on the layer; the image itself is only ever read.
import { createHash } from 'node:crypto';
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { checkTemplateImage, createOverlay, readBackingFile } from '../../guest/disk/overlay.ts';
import type { ImageConfig } from '../../node-file/config.ts';
import { errnoOf } from '../../util/errors.ts';
import { makeDirectory, writeFileAtomic } from '../../util/files/files.ts';
import type { Run } from '../../util/processes/run.ts';
import { randomToken } from '../../util/random-token.ts';
import { imageFiles, stateOf } from '../chain.ts';
import { isUnchanged, type Layer, layerPaths, readLayer } from './backing.ts';
import { changesFor, inspect, PROBES, type ServiceFiles } from './contents.ts';
import { exposeDisk, forgetExposedDisk } from './expose.ts';
import { checkFileSystem, ext4Tree, type GuestTree, layerFailed, recoverJournal } from './guest-tree.ts';
import { guestfishTree, hasGuestfish, LAYER_FILE } from './guestfish.ts';
import { type FileSystemPlace, listFileSystems, unsuitable } from './root-file-system.ts';

export type PrepareMethod = 'auto' | 'libguestfs' | 'e2fsprogs';

export interface PrepareOptions {
  run: Run;
  state: string;
  image: ImageConfig;
  files: ServiceFiles;
  /** `auto`: libguestfs where it is installed, otherwise e2fsprogs. */
  method: PrepareMethod;
  /** Make it anew even if it is what it should be. */
  force: boolean;
  say: (line: string) => void;
}

const WORK = '.work';

/** Makes the layer of an image, unless there is one that is what it would become. Two at once: the second
 * waits, and finds it done. What another that was killed has left is removed first.
 * @returns whether one was made
 * @throws VmbatchError `node`: `image-unsuitable`, `layer-failed`, `image-absent` */
export async function prepareImage(options: PrepareOptions): Promise<boolean> {
  const { state, image } = options;
  const { directory } = layerPaths(state, image.name);
  const unlock = await lockAlone(directory);
  try {
    const contents = contentsHash(options.files);
    const layer = readLayer(state, image.name);
    const isCurrent =
      layer !== undefined &&
      layer.contents === contents &&
      isUnchanged(layer, image.path) &&
      statSync(join(directory, layer.disk), { throwIfNoEntry: false }) !== undefined;
    if (isCurrent && !options.force) return false;
    checkTemplateImage(image.name, image.path, image.format);
    // QEMU need not be root: it must be able to get there, and nobody to list it.
    for (const path of [state, join(state, 'layers'), directory]) makeDirectory(path, 0o711);
    await removeWork(options.run, directory);
    await makeLayer(options, directory, contents);
    return true;
  } finally {
    await unlock();
  }
}

async function makeLayer(options: PrepareOptions, directory: string, contents: string): Promise<void> {
  const { run, state, image } = options;
  const work = join(directory, WORK);
  makeDirectory(work, 0o700);
  try {
    const { size, mtimeMs } = statSync(image.path);
    const below = imageFiles(image)
      .slice(1)
      .flatMap((path) => stateOf(path) ?? []);
    await createOverlay(run, image, join(work, LAYER_FILE));
    if (await useLibguestfs(run, options.method))
      await putIn(guestfishTree(run, work), options, 'libguestfs');
    else await putInWithE2fsprogs(options, work);
    const layer: Layer = {
      version: 1,
      base: { path: image.path, size, mtimeMs },
      below,
      disk: `layer-${randomToken(8)}.qcow2`,
      contents,
      madeAt: Date.now(),
    };
    if (!isUnchanged(layer, image.path))
      throw layerFailed(`${image.path} was written to meanwhile`, 'try again once it is complete');
    renameSync(join(work, LAYER_FILE), join(directory, layer.disk));
    writeFileAtomic(layerPaths(state, image.name).manifest, `${JSON.stringify(layer)}\n`, 0o644);
    pruneLayers(state, image.name);
  } finally {
    await removeWork(run, directory);
  }
}

async function useLibguestfs(run: Run, method: PrepareMethod): Promise<boolean> {
  if (method === 'e2fsprogs') return false;
  if (await hasGuestfish(run)) return true;
  if (method === 'auto') return false;
  throw layerFailed('guestfish is not installed', 'install libguestfs-tools (Debian) or guestfs-tools (RPM)');
}

async function putInWithE2fsprogs(options: PrepareOptions, work: string): Promise<void> {
  const { run, image } = options;
  const disk = await exposeDisk(join(work, LAYER_FILE), work);
  let done = false;
  try {
    const all = readingDisk(join(work, 'disk'), listFileSystems);
    const { place, tree } = await findRoot(run, all, work, image.path);
    const fileSystem = { directory: work, offset: place.offset };
    const where = place.partition === 0 ? 'the whole disk' : `partition ${place.partition}`;
    await putIn(tree, options, `${place.kind} on ${where}`);
    await checkFileSystem(run, fileSystem);
    done = true;
  } finally {
    // What went wrong before says more than that the end failed too.
    await disk.close().catch((error: unknown) => {
      if (done) throw error;
    });
  }
}

async function findRoot(run: Run, all: FileSystemPlace[], directory: string, image: string) {
  const readable = all.filter(({ kind }) => kind.startsWith('ext'));
  for (const place of readable) {
    const fileSystem = { directory, offset: place.offset };
    if (place.needsRecovery) await recoverJournal(run, fileSystem);
    const tree = ext4Tree(run, fileSystem);
    if ((await tree.present(['/etc/passwd'])).size > 0) return { place, tree };
  }
  const found = all.map(({ kind, partition }) =>
    partition === 0 ? kind : `${kind} on partition ${partition}`,
  );
  throw unsuitable(
    `${image}: no ext4 file system with /etc/passwd was found; there is ${found.join(', ') || 'nothing that is known'}`,
    'without libguestfs only ext2, ext3 and ext4 can be written to: install libguestfs-tools; see docs/images.md',
  );
}

async function putIn(tree: GuestTree, { files, image, say }: PrepareOptions, where: string): Promise<void> {
  const present = await tree.present(PROBES);
  const facts = inspect(present, (await tree.read('/etc/selinux/config'))?.toString('utf8'));
  const family = facts.init === 'systemd' ? 'systemd' : `System V init (${facts.family})`;
  say(`${image.name}: ${where}, ${family}${facts.selinux ? ', SELinux' : ''}`);
  for (const warning of facts.warnings) say(`${image.name}: note: ${warning}`);
  await tree.apply(changesFor(facts, files), facts.selinux);
}

function readingDisk<T>(path: string, use: (read: (offset: number, length: number) => Buffer) => T): T {
  const fd = openSync(path, 'r');
  try {
    return use((offset, length) => {
      const buffer = Buffer.alloc(length);
      return buffer.subarray(0, readSync(fd, buffer, 0, length, offset));
    });
  } finally {
    closeSync(fd);
  }
}

/** Removes layers that nobody stands on any more. What a job has just been given without having made its
 * overlay is younger than an hour, and stays.
 * @returns names of those that are left beside the current one */
export function pruneLayers(state: string, image: string, now = Date.now()): string[] {
  const { directory } = layerPaths(state, image);
  const current = readLayer(state, image)?.disk;
  const used = new Set(overlaysOf(state).map(({ backing }) => backing));
  const left: string[] = [];
  for (const name of listDirectory(directory)) {
    if (!/^layer-.*\.qcow2$/.test(name) || name === current) continue;
    const path = join(directory, name);
    const age = now - (statSync(path, { throwIfNoEntry: false })?.ctimeMs ?? now);
    if (used.has(path) || age < 3_600_000) left.push(name);
    else rmSync(path, { force: true });
  }
  return left;
}

/** What the disks of all jobs on this node stand on. */
export function overlaysOf(state: string): { jobId: string; backing: string }[] {
  return listDirectory(join(state, 'jobs')).flatMap((jobId) => {
    const backing = readBackingFile(join(state, 'jobs', jobId, 'overlay.qcow2'));
    return backing === undefined ? [] : [{ jobId, backing }];
  });
}

async function removeWork(run: Run, directory: string): Promise<void> {
  const work = join(directory, WORK);
  if (listDirectory(work).length > 0) await forgetExposedDisk(run, work);
  rmSync(work, { recursive: true, force: true });
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

function contentsHash(files: ServiceFiles): string {
  const hash = createHash('sha256');
  for (const [name, data] of Object.entries(files)) hash.update(`${name} ${data.length}\n`).update(data);
  return hash.digest('hex');
}

/** Waits until nobody else on this node works on a directory. An abstract socket: its name is free as soon as
 * its process ends, however it ends. */
async function lockAlone(directory: string): Promise<() => Promise<void>> {
  const name = `\0vmbatch-layer-${createHash('sha256').update(directory).digest('hex')}`;
  for (;;) {
    const server = createServer();
    const problem = await new Promise<unknown>((resolve) => {
      server.once('error', resolve);
      server.listen(name, () => resolve(undefined));
    });
    if (problem === undefined) return () => new Promise((resolve) => server.close(() => resolve()));
    if (errnoOf(problem) !== 'EADDRINUSE') throw problem;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** The files of the service, from the program's own folder.
 * @param pathOf where one of our resources is */
export function loadServiceFiles(pathOf: (name: string) => string): ServiceFiles {
  const load = (name: string) => readFileSync(pathOf(`share/guest/${name}`));
  return {
    service: load('vmbatch-guest'),
    udhcpcScript: load('udhcpc-script'),
    systemdUnit: load('vmbatch-guest.service'),
    initScript: load('vmbatch-guest.init'),
  };
}
