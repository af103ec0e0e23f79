// A-REX's control directory. ARC 6 keeps the files of all jobs flat in it; ARC 7 nests them, behind the same interface.
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { errnoOf, VmbatchError } from '../util/errors.ts';

/** Per-job files that a backend reads or writes. */
type JobFile = 'grami' | 'local' | 'errors' | 'diag' | 'lrms_done' | 'output';

/** Where A-REX keeps the state of a job. */
const STATE_FOLDERS = ['processing', 'accepting', 'restarting', 'finished'] as const;
type StateFolder = (typeof STATE_FOLDERS)[number];

export interface ControlDirectory {
  readonly path: string;
  /** Ids of the grid jobs in `processing/`. */
  listProcessing(): string[];
  /** Which folder `processing/` is, and when something came or went. */
  processingStamp(): ProcessingStamp;
  /** Content of the status file, `INLRMS`, `CANCELING`, ...; undefined if the job is no longer processed. */
  readStatus(gridId: string): string | undefined;
  /** Wherever A-REX has the job now; undefined if it has it nowhere, as for a moment between two folders. */
  findStatus(gridId: string): { folder: StateFolder; status: string } | undefined;
  /** `job.ID.local` and whose it is; undefined if it does not exist.
   * @throws a system error */
  readLocal(gridId: string): LocalText | undefined;
  /** The same without asking whose it is; a third cheaper. */
  readLocalText(gridId: string): string | undefined;
  hasFile(gridId: string, file: JobFile): boolean;
  /** Path of a file of the job. */
  jobFile(gridId: string, file: JobFile): string;
  /** Last argument of gm-kick. */
  kickPath(gridId: string): string;
}

interface ProcessingStamp {
  /** Device and inode: another one is another folder, whatever its name. */
  identity: string;
  mtimeMs: number;
}

/** The owner of a `.local` file is the account that A-REX mapped the job to. */
interface LocalText {
  /** Bytes as latin1. */
  text: string;
  uid: number;
  gid: number;
}

const FLAT_STATUS = /^job\.[A-Za-z0-9._-]+\.status$/;
const NESTED_STATUS = /^[A-Za-z0-9_-]+\.status$/;

/** Real ones have a kilobyte; the arguments of a job may be long. */
const LOCAL_BYTES = 1024 * 1024;

/** The control directory at `path`. Which layout it has is looked up at each listing: A-REX may be upgraded meanwhile.
 * @throws VmbatchError `site` if there is no such directory */
export function openControlDirectory(path: string): ControlDirectory {
  const processing = join(path, 'processing');
  const buffer = Buffer.allocUnsafe(LOCAL_BYTES);
  let nested = false;
  const list = () => {
    nested = existsSync(join(path, 'jobs'));
    const pattern = nested ? NESTED_STATUS : FLAT_STATUS;
    const start = nested ? 0 : 'job.'.length;
    const gridIds: string[] = [];
    for (const name of listDirectory(processing))
      if (pattern.test(name)) gridIds.push(name.slice(start, -'.status'.length));
    return gridIds;
  };
  const statusName = (gridId: string) => (nested ? `${gridId}.status` : `job.${gridId}.status`);
  const jobFile = (gridId: string, file: JobFile) =>
    nested ? join(path, 'jobs', nestedFolder(gridId), file) : `${path}/job.${gridId}.${file}`;
  const readStatusIn = (folder: StateFolder, gridId: string) => {
    const text = readSmall(`${path}/${folder}/${statusName(gridId)}`, buffer, () => undefined)?.text.trim();
    // An empty file is one that A-REX is writing.
    return text === '' ? undefined : text;
  };
  try {
    accessSync(processing, constants.R_OK | constants.X_OK);
  } catch (error) {
    throw unreadable(processing, error);
  }
  nested = existsSync(join(path, 'jobs'));
  return {
    path,
    listProcessing: list,
    processingStamp: () => {
      const { dev, ino, mtimeMs } = statSync(processing);
      return { identity: `${dev}:${ino}`, mtimeMs };
    },
    readStatus: (gridId) => readStatusIn('processing', gridId),
    findStatus: (gridId) => {
      for (const folder of STATE_FOLDERS) {
        const status = readStatusIn(folder, gridId);
        if (status !== undefined) return { folder, status };
      }
      return undefined;
    },
    readLocal: (gridId) => {
      const read = readSmall(jobFile(gridId, 'local'), buffer, (fd) => fstatSync(fd));
      return read === undefined ? undefined : { text: read.text, uid: read.extra.uid, gid: read.extra.gid };
    },
    readLocalText: (gridId) => readSmall(jobFile(gridId, 'local'), buffer, () => undefined)?.text,
    hasFile: (gridId, file) => existsSync(jobFile(gridId, file)),
    jobFile,
    kickPath: (gridId) => (nested ? path : jobFile(gridId, 'local')),
  };
}

/** ARC 7 cuts an id after 3, 6 and 9 characters. */
function nestedFolder(gridId: string): string {
  const parts = [gridId.slice(0, 3), gridId.slice(3, 6), gridId.slice(6, 9), gridId.slice(9)];
  return parts.filter((part) => part !== '').join('/');
}

/** Reads with as few system calls as it takes: a pass may have 10,000 such files.
 * @returns undefined if the file does not exist */
function readSmall<T>(
  path: string,
  buffer: Buffer,
  look: (fd: number) => T,
): { text: string; extra: T } | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const extra = look(fd);
    return { extra, text: buffer.toString('latin1', 0, readSync(fd, buffer, 0, buffer.length, 0)) };
  } finally {
    closeSync(fd);
  }
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

const unreadable = (path: string, cause: unknown) =>
  new VmbatchError({
    fault: 'site',
    code: 'control-directory-unreadable',
    message: `${path}: cannot be listed (${errnoOf(cause) ?? 'unknown error'})`,
    hint: 'A-REX calls scan with: --config CONF CONTROLDIR',
    cause,
  });
