// Where a program is, by a PATH that need not be ours.
import { accessSync, constants, statSync } from 'node:fs';
import { join } from 'node:path';

/** What a process gets that is started without PATH (execvp's own). */
export const NO_PATH = '/bin:/usr/bin';

/** The first folder of a PATH that holds a program which we may execute; undefined if none does. */
export function folderOf(program: string, path: string): string | undefined {
  return path.split(':').find((folder) => folder.startsWith('/') && isProgram(join(folder, program)));
}

export function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
