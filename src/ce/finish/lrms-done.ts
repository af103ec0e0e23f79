// job.ID.lrms_done for many jobs at a time: complete or not there.
import { closeSync, constants, fchmodSync, fsync, openSync, renameSync, rmSync } from 'node:fs';
import { promisify } from 'node:util';
import { errnoOf } from '../../util/errors.ts';
import { writeAll } from '../../util/files/files.ts';

const flush = promisify(fsync);

export interface LrmsDone {
  path: string;
  /** One line, see `renderLrmsDone`. */
  text: string;
}

/** Writes beside, flushes, renames. An empty lrms_done would count as success, so after a power cut there
 * must be none: each file is on disk before it gets its name. They are flushed at the same time, which costs
 * a disk little more than one.
 * @returns for each file what went wrong, or undefined if it is in place */
export async function writeLrmsDone(files: readonly LrmsDone[]): Promise<unknown[]> {
  const written = files.map(write);
  return await Promise.all(
    written.map(async ({ fd, temporary, path, error }) => {
      if (fd === undefined) return error;
      try {
        await flush(fd).finally(() => closeSync(fd));
        renameSync(temporary, path);
        return undefined;
      } catch (failure) {
        rmSync(temporary, { force: true });
        return failure;
      }
    }),
  );
}

/** Removes a temporary file of a process that is no more.
 * @throws a system error */
export function removeStale(temporary: string): void {
  if (!isRunning(Number(/\.(\d+)\.tmp$/.exec(temporary)?.[1]))) rmSync(temporary, { force: true });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}

function write({ path, text }: LrmsDone): { path: string; temporary: string; fd?: number; error?: unknown } {
  const temporary = `${path}.${process.pid}.tmp`;
  let fd: number | undefined;
  try {
    fd = openSync(
      temporary,
      constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW,
      0o600,
    );
    fchmodSync(fd, 0o600);
    writeAll(fd, Buffer.from(text));
    return { path, temporary, fd };
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    return { path, temporary, error };
  }
}
