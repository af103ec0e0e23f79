// CernVM-FS cache disks: they outlive guests. One a slot and image: a guest takes the first that no other guest has, and leaves it
// to the next guest of the same image. What is on them is only ever read by guests.
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { findProcess } from '../../hypervisor/guest-process.ts';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import { makeDirectory, namesIn, removeFile } from '../../util/files.ts';
import { listLeases, releaseLease, takeLease } from '../network/lease.ts';
import { createSparseFile } from './scratch.ts';

/** As many as guests that a node could ever have at once. */
const MAX_SLOTS = 512;

function cacheDirectory(state: string): string {
  return join(state, 'cache');
}

function diskName(image: string, slot: number): string {
  return `${image}-${slot}`;
}

/** Where the disk of an image's slot is. */
export function cacheDiskPath(state: string, image: string, slot: number): string {
  return join(cacheDirectory(state), `${diskName(image, slot)}.raw`);
}

const lockName = (image: string, slot: number) => `cache-${diskName(image, slot)}`;

/** Leases the first free cache disk of the image, and makes it if it is not there, or not as it should be.
 * @param onCandidate told each slot before its lock is made
 * @returns the slot
 * @throws VmbatchError `node` (`cache-exhausted`, `disk-failed`) */
export function leaseCacheDisk(
  options: { state: string; leases: string; image: string; bytes: number; jobId: string },
  onCandidate: (slot: number) => void,
): number {
  const { state, leases, image, bytes, jobId } = options;
  makeDirectory(cacheDirectory(state), 0o711);
  for (let slot = 0; slot < MAX_SLOTS; slot++) {
    onCandidate(slot);
    if (!takeLease(leases, lockName(image, slot), jobId)) continue;
    const path = cacheDiskPath(state, image, slot);
    // A lock may have been removed by hand while its guest runs on: two guests on one disk would destroy it.
    if (isInUse(path)) {
      releaseLease(leases, lockName(image, slot), jobId);
      continue;
    }
    if (!isSound(path, bytes)) {
      removeFile(path);
      createSparseFile(path, bytes);
    }
    return slot;
  }
  throw new VmbatchError({
    fault: 'node',
    code: 'cache-exhausted',
    message: `all ${MAX_SLOTS} cache disks of image ${image} are in use`,
    hint: `are there locks of jobs that are long gone in ${leases}?`,
    jobId,
  });
}

/** Gives the disk to the next guest; no error if it is not this job's. */
export function releaseCacheDisk(leases: string, image: string, slot: number, jobId: string): void {
  releaseLease(leases, lockName(image, slot), jobId);
}

/** Whether any guest of this host has the file on its command line. */
function isInUse(path: string): boolean {
  return findProcess((words) => words.some((word) => word.includes(path))) !== undefined;
}

/** ext4's superblock begins 1024 bytes into the disk; its magic stands at byte 56 of that. */
const EXT_MAGIC_AT = 1024 + 56;

/** Whether the disk is one that a guest may have: root's own regular file of the right size, which is either blank or holds a
 * file system of the kind that guests make on it. Whether that is in order is for the guest to find out: it checks it, and makes
 * it anew if it must. */
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

/** All cache disks, with the job that has each: for whoever looks after the node. */
export function listCacheDisks(state: string, leases: string): { path: string; jobId: string | undefined }[] {
  const holders = new Map(listLeases(leases).map(({ name, jobId }) => [name, jobId]));
  return namesIn(cacheDirectory(state))
    .filter((name) => name.endsWith('.raw'))
    .map((name) => ({
      path: join(cacheDirectory(state), name),
      jobId: holders.get(`cache-${name.slice(0, -4)}`),
    }));
}
