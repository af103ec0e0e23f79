// A-REX's control directory. ARC 6 keeps the files of all jobs flat in it; ARC 7 nests them, behind the same interface.
import { type Dirent, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, VmbatchError } from '../util/errors.ts';

/** Per-job files that a backend reads or writes. */
type JobFile = 'grami' | 'local' | 'errors' | 'diag' | 'lrms_done' | 'output';

export interface ControlDirectory {
  readonly path: string;
  /** Ids of the grid jobs in `processing/`. */
  listProcessing(): string[];
  /** Content of the status file, `INLRMS`, `CANCELING`, ...; undefined if the job is no longer processed. */
  readStatus(gridId: string): string | undefined;
  /** Path of a file of the job. */
  jobFile(gridId: string, file: JobFile): string;
  /** Last argument of gm-kick. */
  kickPath(gridId: string): string;
}

const STATUS = /^job\.([A-Za-z0-9._-]+)\.status$/;

/** The control directory at `path`.
 * @throws VmbatchError `site` if there is no such directory */
export function openControlDirectory(path: string): ControlDirectory {
  const processing = join(path, 'processing');
  listDirectory(processing);
  return {
    path,
    listProcessing: () => listDirectory(processing).flatMap(({ name }) => STATUS.exec(name)?.[1] ?? []),
    readStatus: (gridId) => {
      try {
        return readFileSync(join(processing, `job.${gridId}.status`), 'latin1').trim();
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return undefined; // it went on to another state meanwhile
        throw error;
      }
    },
    jobFile: (gridId, file) => join(path, `job.${gridId}.${file}`),
    kickPath: (gridId) => join(path, `job.${gridId}.local`),
  };
}

function listDirectory(path: string): Dirent[] {
  try {
    return readdirSync(path, { withFileTypes: true });
  } catch (error) {
    throw new VmbatchError({
      fault: 'site',
      code: 'control-directory-unreadable',
      message: `${path}: cannot be listed (${errnoOf(error) ?? 'unknown error'})`,
      hint: 'A-REX calls scan with: --config CONF CONTROLDIR',
      cause: error,
    });
  }
}
