// Files: replaced by rename, read with a bound and without following links, removed without complaint.
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  type Stats,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { ERRNO_HINTS, errnoOf, type Fault, VmbatchError } from '../errors.ts';

/** Writes a file complete or not at all: a temporary neighbour, fsync, rename. `mode` is exact, whatever the
 * umask; with `owner` the file is theirs from the moment it can be seen. */
export function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  mode: number,
  owner?: { uid: number; gid: number },
): void {
  const temporary = `${path}.${process.pid}.tmp`;
  rmSync(temporary, { force: true });
  try {
    const fd = openSync(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, mode);
    try {
      fchmodSync(fd, mode);
      if (owner !== undefined) fchownSync(fd, owner.uid, owner.gid);
      writeAll(fd, typeof data === 'string' ? Buffer.from(data) : data);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    // Half a secret in a temporary file is a secret.
    rmSync(temporary, { force: true });
    throw naming(error, path);
  }
}

/** A write that fails does not say where: whoever reads that a disk is full wants to know which. */
function naming(error: unknown, path: string): unknown {
  if (error instanceof Error && errnoOf(error) !== undefined && !('path' in error))
    error.message += ` '${path}'`;
  return error;
}

/** Writes every byte, however many calls it takes. */
export function writeAll(fd: number, data: Uint8Array): void {
  for (let done = 0; done < data.length; ) done += writeSync(fd, data, done);
}

export interface ReadBounds {
  /** Refuse a longer file; bytes. */
  maxBytes: number;
  /** Refuse a file that belongs to somebody else. */
  ownerUid?: number;
  /** Whose fault a longer file is, if not that of all else that is wrong with it. */
  tooLarge?: Fault;
}

/** Reads a regular file that somebody else may have made: no links followed, no FIFO or device opened for
 * good, size and owner checked on the open file. Undefined if it does not exist.
 * @throws VmbatchError with `fault` for anything that is not such a file. */
export function readForeignFile(path: string, bounds: ReadBounds, fault: Fault): Buffer | undefined {
  const refuse = (why: string, cause?: unknown, whose = fault) =>
    new VmbatchError({
      ...{ fault: whose, code: 'file-refused', message: `${path}: ${why}`, cause },
      hint: ERRNO_HINTS[errnoOf(cause) ?? ''],
    });
  let fd: number;
  try {
    // O_NONBLOCK: opening a FIFO must not wait for its writer.
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    if (errnoOf(error) === 'ELOOP') throw refuse('is a symbolic link', error);
    throw refuse(`cannot be read (${errnoOf(error)})`, error);
  }
  try {
    const stats: Stats = fstatSync(fd);
    if (!stats.isFile()) throw refuse('is not a regular file');
    if (bounds.ownerUid !== undefined && stats.uid !== bounds.ownerUid)
      throw refuse(`belongs to uid ${stats.uid}, must belong to uid ${bounds.ownerUid}`);
    if (stats.size > bounds.maxBytes)
      throw refuse(
        `has ${stats.size} bytes, at most ${bounds.maxBytes} are read`,
        undefined,
        bounds.tooLarge,
      );
    // One byte more than allowed, so that a file that grew meanwhile is noticed.
    const buffer = Buffer.alloc(bounds.maxBytes + 1 > 1 << 20 ? stats.size + 1 : bounds.maxBytes + 1);
    let length = 0;
    for (let got = -1; got !== 0 && length < buffer.length; length += got)
      got = readSync(fd, buffer, length, buffer.length - length, null);
    if (length > bounds.maxBytes) throw refuse(`grew beyond ${bounds.maxBytes} bytes`);
    return buffer.subarray(0, length);
  } finally {
    closeSync(fd);
  }
}

/** Puts the names in a directory on the disk: after a power cut they are as they are now. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** The names in a directory; none if it is not there, or not for us to see. */
export function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(errnoOf(error) ?? '')) return [];
    throw error;
  }
}

/** Makes a directory with exactly this mode, whatever the umask; true if it was made, false if it was
 * there. */
export function makeDirectory(path: string, mode: number): boolean {
  try {
    mkdirSync(path, { mode: mode & 0o700 });
    chmodSync(path, mode);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  }
}

/** Removes a file; true if it was there. */
export function removeFile(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return false;
    throw error;
  }
}

/** The path itself, or the first folder above it that is there. */
export function nearestDirectory(path: string): string {
  return existsSync(path) || path === '/' ? path : nearestDirectory(dirname(path));
}
