// CernVM-FS cache disks: they outlive guests. One for each image, account and slot: a guest takes the first
// that no other guest has, and leaves it to the next guest of the same image and the same account. CernVM-FS
// trusts what is in its cache, and root in a guest belongs to the job: on another account's disk it could
// plant programs that run with that account's proxy.
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { findProcess } from '../../hypervisor/guest-process.ts';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import { makeDirectory, namesIn, removeFile } from '../../util/files/files.ts';
import { listLeases, releaseLease, takeLease } from '../network/lease.ts';
import { createSparseFile } from './scratch.ts';

/** As many as guests that a node could ever have at once. */
const MAX_SLOTS = 512;

/** Whose a disk may be, and which of several. */
export interface CacheDisk {
  image: string;
  /** Uid of the account; undefined: of a job that an older version has started, which kept one disk for all
   * accounts. */
  account: number | undefined;
  slot: number;
}

function cacheDirectory(state: string): string {
  return join(state, 'cache');
}

/** No image has an `@` in its name. */
function diskName({ image, account, slot }: CacheDisk): string {
  return account === undefined ? `${image}-${slot}` : `${image}@${account}-${slot}`;
}

/** Disks of older versions: of all accounts. */
const IS_OWN = /@\d+-\d+\.raw$/;

/** Where the disk is. */
export function cacheDiskPath(state: string, disk: CacheDisk): string {
  return join(cacheDirectory(state), `${diskName(disk)}.raw`);
}

const lockName = (disk: CacheDisk) => `cache-${diskName(disk)}`;

/** Leases the first free cache disk of the image and the account, and makes it if it is not there, or not as
 * it should be.
 * @param onCandidate told each disk before its lock is made
 * @throws VmbatchError `node` (`cache-exhausted`, `disk-failed`) */
export function leaseCacheDisk(
  options: { state: string; leases: string; image: string; account: number; bytes: number; jobId: string },
  onCandidate: (disk: CacheDisk) => void,
): CacheDisk {
  const { state, leases, image, account, bytes, jobId } = options;
  makeDirectory(cacheDirectory(state), 0o711);
  for (const { path, name } of idleDisks(state, leases)) if (!IS_OWN.test(name)) removeFile(path);
  for (let slot = 0; slot < MAX_SLOTS; slot++) {
    const disk = { image, account, slot };
    onCandidate(disk);
    if (!takeLease(leases, lockName(disk), jobId)) continue;
    const path = cacheDiskPath(state, disk);
    // A lock may have been removed by hand while its guest runs on: two guests on one disk would destroy it.
    if (isInUse(path)) {
      releaseLease(leases, lockName(disk), jobId);
      continue;
    }
    if (!isSound(path, bytes)) {
      removeFile(path);
      createSparseFile(path, bytes);
    }
    return disk;
  }
  throw new VmbatchError({
    fault: 'node',
    code: 'cache-exhausted',
    message: `all ${MAX_SLOTS} cache disks of image ${image} and uid ${account} are in use`,
    hint: `are there locks of jobs that are long gone in ${leases}?`,
    jobId,
  });
}

/** Gives the disk to the next guest; no error if it is not this job's. */
export function releaseCacheDisk(leases: string, disk: CacheDisk, jobId: string): void {
  releaseLease(leases, lockName(disk), jobId);
}

/** What the lock says while a disk is being removed. */
const REMOVER = '0.cache';

/** Removes cache disks that no guest has, those first that have not been used for the longest time.
 * @param enough asked before each, with the time of its last use (milliseconds since 1970)
 * @returns paths of those that are gone */
export function dropIdleCacheDisks(
  state: string,
  leases: string,
  enough: (usedAt: number) => boolean,
): string[] {
  const dropped: string[] = [];
  const idle = idleDisks(state, leases).sort((a, b) => a.usedAt - b.usedAt);
  for (const { path, name, usedAt } of idle) {
    if (enough(usedAt)) break;
    const lock = `cache-${name.slice(0, -4)}`;
    if (!takeLease(leases, lock, REMOVER)) continue;
    if (!isInUse(path) && removeFile(path)) dropped.push(path);
    releaseLease(leases, lock, REMOVER);
  }
  return dropped;
}

function idleDisks(state: string, leases: string): { path: string; name: string; usedAt: number }[] {
  return listCacheDisks(state, leases).flatMap(({ path, name, jobId }) => {
    const stats = lstatSync(path, { throwIfNoEntry: false });
    // A guest that mounts the disk writes on it.
    return jobId !== undefined || stats === undefined ? [] : [{ path, name, usedAt: stats.mtimeMs }];
  });
}

/** Whether any guest of this host has the file on its command line. */
function isInUse(path: string): boolean {
  return findProcess((words) => words.some((word) => word.includes(path))) !== undefined;
}

/** ext4's superblock begins 1024 bytes into the disk; its magic stands at byte 56 of that. */
const EXT_MAGIC_AT = 1024 + 56;

/** Whether the disk is one that a guest may have: root's own regular file of the right size, which is either
 * blank or holds a file system of the kind that guests make on it. Whether that is in order is for the guest
 * to find out: it checks it, and makes it anew if it must. */
function isSound(path: string, bytes: number): boolean {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ELOOP') return false;
    throw error;
  }
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile() || stats.size !== bytes || (stats.mode & 0o077) !== 0) return false;
    if (stats.blocks === 0) return true;
    const magic = Buffer.alloc(2);
    readSync(fd, magic, 0, 2, EXT_MAGIC_AT);
    return magic.readUInt16LE() === 0xef53;
  } finally {
    closeSync(fd);
  }
}

/** All cache disks, with the job that has each. */
export function listCacheDisks(
  state: string,
  leases: string,
): { path: string; name: string; jobId: string | undefined }[] {
  const names = namesIn(cacheDirectory(state)).filter((name) => name.endsWith('.raw'));
  if (names.length === 0) return [];
  const holders = new Map(listLeases(leases).map(({ name, jobId }) => [name, jobId]));
  return names.map((name) => ({
    path: join(cacheDirectory(state), name),
    name,
    jobId: holders.get(`cache-${name.slice(0, -4)}`),
  }));
}
