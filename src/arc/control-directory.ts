// A-REX's control directory. ARC 6 keeps the files of all jobs flat in it; ARC 7 nests them, behind the same
// interface. After an upgrade there may be jobs of both kinds, so the layout is a matter of each job.
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
import { dirname, join } from 'node:path';
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
  hasFile(gridId: string, file: JobFile): boolean;
  /** Path of a file of the job. */
  jobFile(gridId: string, file: JobFile): string;
  /** Last argument of gm-kick. */
  kickPath(gridId: string): string;
  /** What a process that was killed may have left: which jobs have an `lrms_done`, and temporary files of
   * `lrms_done`. Reads all of the directory.
   * @param nested ids of the jobs in `processing/`; gone over only if some of them may be nested */
  findLeftovers(nested: () => Iterable<string>): Leftovers;
  /** Whether some of the jobs that were listed last have their files in folders of their own. */
  readonly hasNested: boolean;
}

interface Leftovers {
  /** Ids of grid jobs, in `processing/` or not. */
  reported: string[];
  /** Paths. */
  temporary: string[];
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

/** `lrms_done.PID.tmp`, see `writeLrmsDone`. */
const TEMPORARY = /(?:^|\.)lrms_done\.\d+\.tmp$/;

/** The control directory at `path`.
 * @throws VmbatchError `site` if there is no such directory */
export function openControlDirectory(path: string): ControlDirectory {
  const processing = join(path, 'processing');
  const buffer = Buffer.allocUnsafe(LOCAL_BYTES);
  const layouts = new Layouts();
  const statusIn = (folder: StateFolder, gridId: string, nested: boolean) => {
    const name = nested ? `${gridId}.status` : `job.${gridId}.status`;
    const text = readSmall(`${path}/${folder}/${name}`, buffer, () => undefined)?.text.trim();
    // An empty file is one that A-REX is writing.
    return text === '' ? undefined : text;
  };
  const fileIn = (gridId: string, file: JobFile, nested: boolean) =>
    nested ? join(path, 'jobs', nestedFolder(gridId), file) : `${path}/job.${gridId}.${file}`;
  const jobFile = (gridId: string, file: JobFile) => fileIn(gridId, file, layouts.isNested(gridId));
  /** As the job was last seen; a job that is not in `processing/` may as well be of the other kind. */
  const inEither = <T>(gridId: string, look: (nested: boolean) => T | undefined): T | undefined => {
    const nested = layouts.isNested(gridId);
    return look(nested) ?? look(!nested);
  };
  try {
    accessSync(processing, constants.R_OK | constants.X_OK);
  } catch (error) {
    throw unreadable(processing, error);
  }
  return {
    path,
    listProcessing: () => layouts.take(listDirectory(processing)),
    processingStamp: () => {
      const { dev, ino, mtimeMs } = statSync(processing);
      return { identity: `${dev}:${ino}`, mtimeMs };
    },
    readStatus: (gridId) => statusIn('processing', gridId, layouts.isNested(gridId)),
    findStatus: (gridId) => {
      for (const folder of STATE_FOLDERS) {
        const status = inEither(gridId, (nested) => statusIn(folder, gridId, nested));
        if (status !== undefined) return { folder, status };
      }
      return undefined;
    },
    readLocal: (gridId) => {
      const read = inEither(gridId, (nested) =>
        readSmall(fileIn(gridId, 'local', nested), buffer, (fd) => fstatSync(fd)),
      );
      return read === undefined ? undefined : { text: read.text, uid: read.extra.uid, gid: read.extra.gid };
    },
    hasFile: (gridId, file) => existsSync(jobFile(gridId, file)),
    jobFile,
    kickPath: (gridId) => (layouts.isNested(gridId) ? path : jobFile(gridId, 'local')),
    get hasNested() {
      return layouts.hasNested;
    },
    findLeftovers: (nested) => {
      const reported: string[] = [];
      const temporary: string[] = [];
      // There may be a hundred thousand names.
      for (const name of listDirectory(path))
        if (name.endsWith('.lrms_done')) reported.push(name.slice('job.'.length, -'.lrms_done'.length));
        else if (name.endsWith('.tmp') && TEMPORARY.test(name)) temporary.push(join(path, name));
      for (const gridId of layouts.hasNested ? nested() : []) {
        if (!layouts.isNested(gridId)) continue;
        const folder = dirname(fileIn(gridId, 'local', true));
        for (const name of existsSync(folder) ? listDirectory(folder) : [])
          if (name === 'lrms_done') reported.push(gridId);
          else if (TEMPORARY.test(name)) temporary.push(join(folder, name));
      }
      return { reported, temporary };
    },
  };
}

/** Which layout each job of `processing/` has, as the name of its status file tells. Nearly all have the
 * same, so only the others are remembered by name. */
class Layouts {
  #mostlyNested = false;
  #others = new Set<string>();

  get hasNested(): boolean {
    return this.#mostlyNested || this.#others.size > 0;
  }

  isNested(gridId: string): boolean {
    return this.#others.size > 0 && this.#others.has(gridId) ? !this.#mostlyNested : this.#mostlyNested;
  }

  /** Takes the names of a new listing.
   * @returns ids of its jobs */
  take(names: readonly string[]): string[] {
    const flat: string[] = [];
    const nested: string[] = [];
    for (const name of names)
      if (FLAT_STATUS.test(name)) flat.push(name.slice('job.'.length, -'.status'.length));
      else if (NESTED_STATUS.test(name)) nested.push(name.slice(0, -'.status'.length));
    // An empty folder says nothing, and the jobs that left it are still asked about.
    if (flat.length + nested.length > 0) this.#mostlyNested = nested.length > flat.length;
    const [many, few] = this.#mostlyNested ? [nested, flat] : [flat, nested];
    this.#others = new Set(few);
    for (const gridId of few) many.push(gridId);
    return many;
  }
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
