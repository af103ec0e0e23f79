// What is done to files in a user's directory, under that user's own ids. Whatever stands there may be
// hostile: no link is followed in the last place of a path, and nothing waits for the other end of a FIFO.
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../../errors.ts';
import { removeFile, writeAll } from '../../files/files.ts';

/** `data` and what is read are bytes as latin1: they go through JSON. */
export type FileOperation =
  /** The content of a file. Of one that is longer: nothing, or its beginning and end. */
  | { do: 'read'; path: string; maxBytes: number; longer: 'refuse' | 'leave-out-the-middle' }
  /** In place, without a temporary neighbour: users may not create anything beside their session
   * directories. */
  | { do: 'overwrite'; path: string; data: string }
  /** To a file that is there, unless `unlessHas` stands in its last part already. With `createMode` a file
   * that is not there is made, with exactly that mode. */
  | { do: 'append'; path: string; data: string; unlessHas?: string; createMode?: number }
  | { do: 'remove'; path: string }
  | { do: 'remove-tree'; path: string }
  /** With the folders above it; what is in it goes if `emptied`. */
  | { do: 'make-directory'; path: string; emptied: boolean }
  /** By a temporary neighbour that is renamed. */
  | { do: 'replace'; path: string; data: string };

/** `found`: the file was there. `why` is made for messages that begin with the path. */
export type FileResult =
  | { ok: true; found: boolean; data?: string }
  | { ok: false; why: string; errno?: string | undefined };

/** How far from the end of a file `unlessHas` is looked for. Bytes. */
const LOOK_BACK_BYTES = 256 * 1024;

/** Carries out one operation. Never throws. */
export function perform(operation: FileOperation): FileResult {
  try {
    return carryOut(operation);
  } catch (error) {
    if (error instanceof Refusal) return { ok: false, why: error.message };
    const errno = errnoOf(error);
    return { ok: false, why: `${VERBS[operation.do]} (${errno ?? 'unknown error'})`, errno };
  }
}

const VERBS: Readonly<Record<FileOperation['do'], string>> = {
  read: 'cannot be read',
  overwrite: 'cannot be written',
  append: 'cannot be written',
  remove: 'cannot be removed',
  'remove-tree': 'cannot be removed',
  'make-directory': 'cannot be made',
  replace: 'cannot be written',
};

/** There is something else than what should be. */
class Refusal extends Error {}

function carryOut(operation: FileOperation): FileResult {
  const { path } = operation;
  switch (operation.do) {
    case 'read':
      return withFile(path, constants.O_RDONLY, (fd) => read(fd, operation.maxBytes, operation.longer));
    case 'overwrite': {
      const bytes = Buffer.from(operation.data, 'latin1');
      return withFile(path, constants.O_WRONLY | constants.O_CREAT, (fd) => {
        writeAll(fd, bytes);
        ftruncateSync(fd, bytes.length);
      });
    }
    case 'append': {
      const { data, unlessHas, createMode } = operation;
      const access = unlessHas === undefined ? constants.O_WRONLY : constants.O_RDWR;
      if (createMode !== undefined && create(path, createMode, data)) return { ok: true, found: false };
      return withFile(path, access | constants.O_APPEND, (fd) => {
        if (unlessHas === undefined || !hasAtEnd(fd, unlessHas)) writeAll(fd, Buffer.from(data, 'latin1'));
      });
    }
    case 'remove':
      return { ok: true, found: removeFile(path) };
    case 'remove-tree':
      rmSync(path, { recursive: true, force: true });
      return { ok: true, found: true };
    case 'make-directory':
      mkdirSync(path, { recursive: true, mode: 0o755 });
      for (const name of operation.emptied ? readdirSync(path) : [])
        rmSync(join(path, name), { recursive: true, force: true });
      return { ok: true, found: true };
    case 'replace':
      writeFileSync(`${path}.new`, Buffer.from(operation.data, 'latin1'), { mode: 0o644, flag: 'w' });
      renameSync(`${path}.new`, path);
      return { ok: true, found: true };
  }
}

/** Makes a file where there is nothing, not even a link to nowhere.
 * @returns false if there is something */
function create(path: string, mode: number, data: string): boolean {
  let fd: number;
  try {
    fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  }
  try {
    writeAll(fd, Buffer.from(data, 'latin1'));
    // Whatever the umask of this process is.
    fchmodSync(fd, mode);
    return true;
  } finally {
    closeSync(fd);
  }
}

function read(fd: number, maxBytes: number, longer: 'refuse' | 'leave-out-the-middle'): string {
  const { size } = fstatSync(fd);
  if (size <= maxBytes) return readAt(fd, 0, size).toString('latin1');
  if (longer === 'refuse') throw new Refusal(`has ${size} bytes, at most ${maxBytes} are read`);
  const half = Math.floor(maxBytes / 2);
  const [head, tail] = [readAt(fd, 0, half), readAt(fd, size - half, half)];
  return `${head.toString('latin1')}\n[... ${size - 2 * half} bytes left out ...]\n${tail.toString('latin1')}`;
}

function hasAtEnd(fd: number, text: string): boolean {
  const { size } = fstatSync(fd);
  const from = Math.max(0, size - LOOK_BACK_BYTES);
  return readAt(fd, from, size - from).includes(Buffer.from(text, 'latin1'));
}

function readAt(fd: number, position: number, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  let done = 0;
  for (let got = -1; got !== 0 && done < length; done += got)
    got = readSync(fd, buffer, done, length - done, position + done);
  return buffer.subarray(0, done);
}

/** Opens a regular file and nothing else; text that `work` gives is the result's data. */
function withFile(path: string, flags: number, work: (fd: number) => unknown): FileResult {
  let fd: number;
  try {
    fd = openSync(path, flags | constants.O_NOFOLLOW | constants.O_NONBLOCK, 0o600);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return { ok: true, found: false };
    if (errnoOf(error) === 'ELOOP') throw new Refusal('is a symbolic link');
    // A FIFO without a reader.
    if (errnoOf(error) === 'ENXIO') throw new Refusal('is not a regular file');
    throw error;
  }
  try {
    if (!fstatSync(fd).isFile()) throw new Refusal('is not a regular file');
    const data = work(fd);
    return typeof data === 'string' ? { ok: true, found: true, data } : { ok: true, found: true };
  } finally {
    closeSync(fd);
  }
}
