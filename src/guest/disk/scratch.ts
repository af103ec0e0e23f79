// The job's scratch disk: as large as it asked for, sparse, and blank; the guest formats it.
import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { errnoOf, VmbatchError } from '../../util/errors.ts';

/** Makes a file of so many bytes that occupies none, for root alone.
 * @throws VmbatchError `node` (`disk-failed`) */
export function createSparseFile(path: string, bytes: number): void {
  try {
    const fd = openSync(path, 'w', 0o600);
    try {
      ftruncateSync(fd, bytes);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw new VmbatchError({
      fault: 'node',
      code: 'disk-failed',
      message: `no disk of ${bytes} bytes at ${path} (${errnoOf(error) ?? String(error)})`,
      hint: 'is there room, and does the file system take files as large as that?',
      cause: error,
    });
  }
}
