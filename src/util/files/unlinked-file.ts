// A file that nobody else can find: what a program reads completely or not at all, however we end.
import { closeSync, constants, fstatSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errnoOf, VmbatchError } from '../errors.ts';
import { randomToken } from '../random-token.ts';

/** Calls `use` with a descriptor of a file in the directory for temporary files that has no name any more. It
 * is open for reading and writing and stands at its beginning, so that a child reads `data` from it as its
 * stdin.
 * @throws VmbatchError `site` `temporary-file` if it cannot be made; then `use` was not called */
export async function withUnlinkedFile<Result>(
  data: Uint8Array,
  use: (fd: number) => Promise<Result>,
): Promise<Result> {
  const fd = openUnlinked(data);
  try {
    return await use(fd);
  } finally {
    closeSync(fd);
  }
}

function openUnlinked(data: Uint8Array): number {
  const folder = tmpdir();
  let fd: number | undefined;
  try {
    const path = join(folder, `vmbatch-${randomToken(12)}`);
    const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
    fd = openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    unlinkSync(path);
    writeAt(fd, data);
    return fd;
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    throw new VmbatchError({
      fault: 'site',
      code: 'temporary-file',
      message: `${folder}: a temporary file of ${data.length} bytes cannot be made there (${errnoOf(error) ?? 'unknown error'})`,
      hint: 'every user must be able to write there, and it must have room; of A-REX it is [arex] tmpdir, else TMPDIR, else /tmp',
      cause: error,
    });
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
