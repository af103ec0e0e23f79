// What scan remembers over its end: CONTROLDIR/vmbatch-scan.state. Only a shortcut: without it, or with a
// damaged one, everything is found again, later and with more work.
import { readFileSync, statSync } from 'node:fs';
import type { LogPosition } from '../../batch/torque/server-log/follower.ts';
import { errnoOf } from '../../util/errors.ts';
import { writeFileAtomic } from '../../util/files/files.ts';

const VERSION = 2;

/** A grid job and its batch job. */
export interface KnownJob {
  gridId: string;
  localId: string;
  /** Whose `.local` it was: the account that A-REX mapped the job to. */
  uid: number;
  gid: number;
}

/** A job that A-REX waits for, with what is known of its end so far. */
export interface SavedJob extends KnownJob {
  /** Passes in a row in which TORQUE did not list it. */
  doubts: number;
  /** What the server log said of it, if that hints at its end. */
  trace?: JobTrace | undefined;
}

/** What the server log said of a batch job. Times are epoch milliseconds. */
export interface JobTrace {
  enqueued?: boolean;
  started?: boolean;
  dequeued?: boolean;
  deletedBy?: string;
  /** The id in these lines, if it is another one. */
  as?: string;
  /** Of the last of these lines. */
  time?: number;
  exitStatus?: number;
  /** Seconds. */
  wallTime?: number;
}

/** A job that left `processing/` without its end being reported. */
export interface SavedAbsentee extends KnownJob {
  /** Epoch milliseconds; the same for all that one look found gone. */
  leftAt: number;
}

export interface ScanState {
  /** Which `processing/` this is about. */
  processing: string;
  /** When TORQUE's list of jobs was last compared. Epoch milliseconds. */
  comparedAt: number;
  jobs: SavedJob[];
  absent: SavedAbsentee[];
  /** How far the server logs were read. In the first control directory only. */
  log: LogPosition[] | undefined;
}

const stateFile = (controlDirectory: string) => `${controlDirectory}/vmbatch-scan.state`;

/** Written by rename: whoever reads it finds all of it.
 * @throws a system error */
export function writeState(controlDirectory: string, state: ScanState): void {
  // Lists, not objects: with 50,000 jobs the keys would be most of the file.
  const jobs = state.jobs.map(({ gridId, localId, uid, gid, doubts, trace }) =>
    trace !== undefined
      ? [gridId, localId, uid, gid, doubts, trace]
      : doubts > 0
        ? [gridId, localId, uid, gid, doubts]
        : [gridId, localId, uid, gid],
  );
  const text = JSON.stringify({ version: VERSION, ...state, jobs });
  writeFileAtomic(stateFile(controlDirectory), `${text}\n`, 0o600);
}

/** Undefined if there is none, or none that can be understood.
 * @param log told why it is not used */
export function readState(controlDirectory: string, log: (line: string) => void): ScanState | undefined {
  const file = stateFile(controlDirectory);
  try {
    const state = parseState(JSON.parse(readFileSync(file, 'utf8')));
    if (state === undefined) log(`${file}: is damaged or of another version; starting without it`);
    return state;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    log(`${file}: cannot be used (${errnoOf(error) ?? 'damaged'}); starting without it`);
    return undefined;
  }
}

/** Whether nothing was made or removed in the control directory since the state was written: then nothing was
 * left behind, either. Says nothing of the folders below it. */
export function isAsSaved(controlDirectory: string): boolean {
  try {
    return statSync(controlDirectory).mtimeMs <= statSync(stateFile(controlDirectory)).ctimeMs;
  } catch {
    return false;
  }
}

function parseState(value: unknown): ScanState | undefined {
  if (!isRecord(value) || value['version'] !== VERSION) return undefined;
  const { processing, comparedAt, jobs, absent, log } = value;
  if (typeof processing !== 'string' || typeof comparedAt !== 'number') return undefined;
  if (!isListOf(jobs, isSavedJob) || !isListOf(absent, isAbsentee)) return undefined;
  if (log !== undefined && !isListOf(log, isPosition)) return undefined;
  return {
    processing,
    comparedAt,
    absent,
    log,
    // By index: for 10,000 jobs, taking each list apart would cost twice as much.
    jobs: jobs.map((job) => ({
      gridId: job[0],
      localId: job[1],
      uid: job[2],
      gid: job[3],
      doubts: job[4] ?? 0,
      trace: job[5],
    })),
  };
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isListOf = <T>(value: unknown, isOne: (one: unknown) => one is T): value is T[] =>
  Array.isArray(value) && value.every(isOne);

const isId = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

const isSavedJob = (value: unknown): value is [string, string, number, number, number?, JobTrace?] =>
  Array.isArray(value) &&
  typeof value[0] === 'string' &&
  typeof value[1] === 'string' &&
  isId(value[2]) &&
  isId(value[3]) &&
  (value[4] === undefined || typeof value[4] === 'number') &&
  (value[5] === undefined || isTrace(value[5]));

const isTrace = (value: unknown): value is JobTrace =>
  isRecord(value) &&
  ['enqueued', 'started', 'dequeued'].every((key) => ['boolean', 'undefined'].includes(typeof value[key])) &&
  ['time', 'exitStatus', 'wallTime'].every((key) => ['number', 'undefined'].includes(typeof value[key])) &&
  ['deletedBy', 'as'].every((key) => ['string', 'undefined'].includes(typeof value[key]));

const isAbsentee = (value: unknown): value is SavedAbsentee =>
  isRecord(value) &&
  typeof value['gridId'] === 'string' &&
  typeof value['localId'] === 'string' &&
  isId(value['uid']) &&
  isId(value['gid']) &&
  typeof value['leftAt'] === 'number';

const isPosition = (value: unknown): value is LogPosition =>
  isRecord(value) &&
  typeof value['name'] === 'string' &&
  /^\d{8}(\.\d{1,4})?$/.test(value['name']) &&
  Number.isSafeInteger(value['inode']) &&
  Number.isSafeInteger(value['offset']);
