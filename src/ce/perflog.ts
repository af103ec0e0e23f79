// Performance logs lie in a folder that grid users may be allowed to write to, and the scan is root.
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { VmbatchError } from '../util/errors.ts';
import { writeAll } from '../util/files/files.ts';

const { O_WRONLY, O_CREAT, O_APPEND, O_NOFOLLOW, O_NONBLOCK } = constants;

/** Appends to a regular file, or makes it: never through a link of either kind, and never waiting for a
 * FIFO's other end.
 * @param mode of a new file, less the umask
 * @throws a system error; VmbatchError `site` if something else is in its place */
export function appendPerflog(path: string, text: string, mode: number): void {
  const fd = openSync(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK, mode);
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile() || stats.nlink !== 1)
      throw new VmbatchError({
        fault: 'site',
        code: 'file-refused',
        message: `${path}: is not a regular file with one name`,
      });
    writeAll(fd, Buffer.from(text));
  } finally {
    closeSync(fd);
  }
}
