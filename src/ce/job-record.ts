// The files beside a session directory, touched only as the job's user: `.diag` and `.comment`.
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync } from 'node:fs';
import { type Diag, parseDiag, renderDiag } from '../arc/diag.ts';
import { type Account, asUser } from '../util/as-user.ts';
import { errnoOf, VmbatchError } from '../util/errors.ts';
import { readForeignFile, writeAll } from '../util/files.ts';

/** Real ones have some hundred bytes. */
const DIAG_MAX_BYTES = 1024 * 1024;

/** How much of a batch job's output goes into the log that the user gets. Bytes. */
const COMMENT_MAX_BYTES = 1024 * 1024;

/** The session's `.diag` as its owner sees it; empty if there is none.
 * @throws VmbatchError `site` if it cannot be read, or is a link, too large, or no file */
export function readDiag(account: Account, path: string): Diag {
  const bytes = asUser(account, () => readForeignFile(path, { maxBytes: DIAG_MAX_BYTES }, 'site'));
  return bytes === undefined ? [] : parseDiag(bytes.toString('latin1'));
}

/** Writes the session's `.diag`.
 *
 * In place: A-REX makes the file for the user, who may not create anything beside the session directory, so there is
 * no temporary neighbour to rename. A-REX looks at it only when lrms_done is there, which comes after.
 * @throws VmbatchError `site` if it cannot be written completely */
export function writeDiag(account: Account, path: string, diag: Diag): void {
  const bytes = Buffer.from(renderDiag(diag), 'latin1');
  asUser(account, () =>
    withFile(path, constants.O_WRONLY | constants.O_CREAT, (fd) => {
      writeAll(fd, bytes);
      ftruncateSync(fd, bytes.length);
    }),
  );
}

/** The batch job's output, its beginning and end if it is longer than `maxBytes`; undefined if there is none. */
export function readComment(
  account: Account,
  path: string,
  maxBytes = COMMENT_MAX_BYTES,
): Buffer | undefined {
  return asUser(account, () =>
    withFile(path, constants.O_RDONLY, (fd) => {
      const { size } = fstatSync(fd);
      if (size <= maxBytes) return readAt(fd, 0, size);
      const half = Math.floor(maxBytes / 2);
      return Buffer.concat([
        readAt(fd, 0, half),
        Buffer.from(`\n[... ${size - 2 * half} bytes left out ...]\n`),
        readAt(fd, size - half, half),
      ]);
    }),
  );
}

/** How far from the end of a log a block of ours is looked for: A-REX may have added lines. Bytes. */
const LOOK_BACK_BYTES = 256 * 1024;

/** Appends the batch job's output to the job's log in the control directory, which belongs to the same user, unless it
 * is there already: a scan that was ended between this and lrms_done does both again.
 * @param localId names the batch job in the log
 * @returns false if there is no such log */
export function appendErrorsOnce(account: Account, path: string, output: Buffer, localId: string): boolean {
  const name = localId.replaceAll(/[^\x21-\x7e]/g, '?').slice(0, 200);
  const end = `--- end of output of batch job ${name}\n`;
  const block = Buffer.concat([
    Buffer.from(`--- output of batch job ${name}\n`),
    output,
    Buffer.from(output.at(-1) === 0x0a ? end : `\n${end}`),
  ]);
  const done = asUser(account, () =>
    withFile(path, constants.O_RDWR | constants.O_APPEND, (fd) => {
      const { size } = fstatSync(fd);
      const from = Math.max(0, size - LOOK_BACK_BYTES);
      if (!readAt(fd, from, size - from).includes(end)) writeAll(fd, block);
      return true;
    }),
  );
  return done ?? false;
}

function readAt(fd: number, position: number, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  let done = 0;
  for (let got = -1; got !== 0 && done < length; done += got)
    got = readSync(fd, buffer, done, length - done, position + done);
  return buffer.subarray(0, done);
}

/** Opens a regular file, never through a link in its last place, and never waits for a FIFO's other end.
 * Undefined if it does not exist. */
function withFile<T>(path: string, flags: number, work: (fd: number) => T): T | undefined {
  const refuse = (why: string, cause?: unknown) =>
    new VmbatchError({ fault: 'site', code: 'file-refused', message: `${path}: ${why}`, cause });
  let fd: number;
  try {
    fd = openSync(path, flags | constants.O_NOFOLLOW | constants.O_NONBLOCK, 0o600);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw refuse(`cannot be opened (${errnoOf(error) ?? 'unknown error'})`, error);
  }
  try {
    if (!fstatSync(fd).isFile()) throw refuse('is not a regular file');
    return work(fd);
  } catch (error) {
    if (error instanceof VmbatchError) throw error;
    throw refuse(`failed (${errnoOf(error) ?? 'unknown error'})`, error);
  } finally {
    closeSync(fd);
  }
}
