// A file that nobody else can find: what a program reads completely or not at all, however we end.
import { closeSync, constants, fstatSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomToken } from './random-token.ts';

/** Calls `use` with a descriptor of a file in the directory for temporary files that has no name any more. It is open for
 * reading and writing and stands at its beginning, so that a child reads `data` from it as its stdin. */
export async function withUnlinkedFile<Result>(
  data: Uint8Array,
  use: (fd: number) => Promise<Result>,
): Promise<Result> {
  const path = join(tmpdir(), `vmbatch-${randomToken(12)}`);
  const fd = openSync(
    path,
    constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    0o600,
  );
  try {
    unlinkSync(path);
    writeAt(fd, data);
    return await use(fd);
  } finally {
    closeSync(fd);
  }
}

/** The bytes from `from` up to `to`, as far as the file has them; where it stands does not matter. */
export function readAt(fd: number, from: number, to: number): Buffer {
  const bytes = Buffer.alloc(Math.max(0, Math.min(to, fstatSync(fd).size) - from));
  let done = 0;
  for (let got = -1; got !== 0 && done < bytes.length; done += got)
    got = readSync(fd, bytes, done, bytes.length - done, from + done);
  return bytes.subarray(0, done);
}

/** Writes every byte from the file's beginning on, without moving where it stands. */
function writeAt(fd: number, data: Uint8Array): void {
  for (let done = 0; done < data.length; ) done += writeSync(fd, data, done, data.length - done, done);
}
