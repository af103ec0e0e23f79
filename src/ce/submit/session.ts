// What a session directory must be before anything is submitted in it.
import { statSync } from 'node:fs';
import type { Grami } from '../../arc/grami.ts';
import { decodeBytes, showBytes } from '../../arc/text.ts';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import { isInPlaceOfMark } from './mark.ts';

/** @throws VmbatchError `site` if the job's user cannot work in its session directory; `job` if the job
 * brings a file in the place of the mark: it would say what a submission that was killed says to the next */
export function requireSession({ sessionDirectory, inputFiles }: Grami): void {
  const path = decodeBytes(sessionDirectory);
  if (!look(path, 'cannot be looked at', path).isDirectory()) throw unusable(path, 'is not a directory');
  look(`${path}/.`, `cannot be searched by the job's user, uid ${process.geteuid?.()}`, path);
  const found = inputFiles.find(isInPlaceOfMark);
  if (found !== undefined)
    throw new VmbatchError({
      fault: 'job',
      code: 'input-file-refused',
      message: `the job has the input file ${showBytes(found)}, and that name in a session directory is vmbatch's own`,
      hint: 'give the file another name',
    });
}

function look(path: string, failure: string, directory: string) {
  try {
    return statSync(path);
  } catch (error) {
    throw unusable(directory, `${failure} (${errnoOf(error) ?? 'unknown error'})`, error);
  }
}

const unusable = (path: string, why: string, cause?: unknown) =>
  new VmbatchError({
    fault: 'site',
    code: 'session-directory-missing',
    message: `the session directory ${path} ${why}`,
    hint: 'jobs run in it as the mapped user: see its owner and permissions, and whether its file system is mounted here',
    cause,
  });
