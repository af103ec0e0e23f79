// The mark in the session directory that a submission is under way: what makes a second submit of the same
// grid job find the batch job of the first, in place of making another.
import { closeSync, constants, fsyncSync, linkSync, openSync, readdirSync } from 'node:fs';
import { join, normalize } from 'node:path';
import { isJobId } from '../../batch/torque/job-id.ts';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import { readForeignFile, removeFile, writeAll } from '../../util/files/files.ts';
import { randomToken } from '../../util/random-token.ts';

/** What a mark says. */
export interface SubmissionMark {
  /** 32 hexadecimal digits. */
  token: string;
  /** The batch job's id, if the job itself has started meanwhile and wrote it down. */
  jobId: string | undefined;
}

const MARK = '.vmbatch-submission';
const UNFINISHED = /^\.vmbatch-submission\.[0-9a-f]{32}$/;
const MAX_BYTES = 4096;

/** Where the mark of a session directory is. */
export function markPath(sessionDirectory: string): string {
  return join(sessionDirectory, MARK);
}

/** Whether this input file (`joboption_inputfile_N`) would be in the place of the mark. */
export function isInPlaceOfMark(inputFile: string): boolean {
  const path = normalize(`/${inputFile}`);
  return path === `/${MARK}` || path.startsWith(`/${MARK}/`);
}

/** The mark of a session directory; undefined if there is none. The directory belongs to the job's owner:
 * whatever else is in its place says nothing and is taken away.
 * @throws VmbatchError `site` if it can be neither read nor removed */
export function readMark(sessionDirectory: string): SubmissionMark | undefined {
  const path = markPath(sessionDirectory);
  let text: string;
  try {
    const bytes = readForeignFile(path, { maxBytes: MAX_BYTES, ownerUid: process.getuid?.() ?? 0 }, 'site');
    if (bytes === undefined) return undefined;
    text = bytes.toString('latin1');
  } catch (error) {
    if (!(error instanceof VmbatchError)) throw error;
    text = '';
  }
  const [token = '', ...ids] = text.split('\n');
  // A token is complete before qsub sees it, so nothing was submitted with half of one.
  if (/^[0-9a-f]{32}$/.test(token)) return { token, jobId: ids.find((line) => line !== '' && isJobId(line)) };
  remove(path);
  return undefined;
}

/** Makes a mark with a new token: complete, on the disk, and only if there is none.
 * @returns undefined if somebody else made one meanwhile
 * @throws VmbatchError `site` if the directory cannot be written to */
export function createMark(sessionDirectory: string): SubmissionMark | undefined {
  const path = markPath(sessionDirectory);
  const token = randomToken(16);
  const temporary = `${path}.${token}`;
  try {
    const fd = openSync(
      temporary,
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
      0o600,
    );
    try {
      try {
        writeAll(fd, Buffer.from(`${token}\n`));
        linkSync(temporary, path);
      } catch (error) {
        // Somebody else's mark is there, or was and has taken ours away with it.
        if (['EEXIST', 'ENOENT'].includes(errnoOf(error) ?? '')) return undefined;
        throw error;
      } finally {
        // Before the disk is waited for: who is killed meanwhile leaves the mark alone behind.
        removeFile(temporary);
      }
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    return { token, jobId: undefined };
  } catch (error) {
    throw new VmbatchError({
      fault: 'site',
      code: 'session-directory-unwritable',
      message: `${path}: cannot be made (${errnoOf(error) ?? 'unknown error'})`,
      cause: error,
    });
  }
}

/** Never fails: a mark that stays is only a file too many. */
function removeMark(sessionDirectory: string): void {
  try {
    removeFile(markPath(sessionDirectory));
  } catch {
    // It is looked at again only if A-REX asks for the same submission again, and then it is right.
  }
}

/** The mark, and what a submit left that was killed while it made one. Never fails. */
export function removeMarks(sessionDirectory: string): void {
  removeMark(sessionDirectory);
  try {
    for (const name of readdirSync(sessionDirectory))
      if (UNFINISHED.test(name)) removeFile(join(sessionDirectory, name));
  } catch {
    // As for the mark itself.
  }
}

function remove(path: string): void {
  try {
    removeFile(path);
  } catch (error) {
    throw new VmbatchError({
      fault: 'site',
      code: 'mark-refused',
      message: `${path}: is in the way and cannot be removed (${errnoOf(error) ?? 'unknown error'})`,
      cause: error,
    });
  }
}
