// Scan: finds the batch jobs that ended, by one qstat a pass for all of them, and reports them to A-REX.
import { closeSync, constants, existsSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { type ControlDirectory, openControlDirectory } from '../arc/control-directory.ts';
import { parseLocal } from '../arc/local.ts';
import { decodeBytes } from '../arc/text.ts';
import type { Torque } from '../torque/commands.ts';
import { isJobId } from '../torque/job-id.ts';
import { qstatJob, qstatJobs, type TorqueJob } from '../torque/qstat.ts';
import { errnoOf, toVmbatchError } from '../util/errors.ts';
import { finishJob, type ScannedJob } from './finish.ts';
import { findGmKick, gmKick } from './gm-kick.ts';

export interface ScanOptions {
  controlDirectories: readonly string[];
  torque: Torque;
  /** Where lines for the admin go (A-REX's `helperlog`). */
  log: (line: string) => void;
  /** Ends the scan between two jobs. */
  signal: AbortSignal;
  /** Milliseconds from the end of a pass to the next. */
  intervalMs?: number;
  /** gm-kick; undefined: as `findGmKick` says. */
  gmKick?: string | undefined;
}

/** After this many passes in a row without a job, TORQUE is asked for it by its id: it is lost only if TORQUE says so. */
const PASSES_UNTIL_LOST = 3;

/** A session directory that cannot be read (its file server may be away) is asked this many passes. */
const PASSES_UNTIL_WITHOUT_DIAG = 12;

/** Milliseconds between the passes of `scanOnce`. */
const ONCE_PAUSE_MS = 1_000;

/** What one pass did. */
interface PassResult {
  /** Grid ids of jobs that were reported. */
  finished: string[];
  /** Jobs that are to be looked at again soon: unknown to TORQUE, or their record could not be read. */
  doubtful: number;
}

/** Scans until `signal` is aborted. Never ends of itself: A-REX would start it again only some seconds later. */
export async function scan(options: ScanOptions): Promise<void> {
  const scanner = new Scanner(options);
  const pause = { signal: options.signal };
  while (!options.signal.aborted) {
    await scanner.pass();
    await setTimeout(options.intervalMs ?? 5_000, undefined, pause).catch(() => undefined);
  }
}

/** Looks at every job once; at those in doubt as often as it takes to be sure.
 * @returns grid ids of the jobs that were reported */
export async function scanOnce(options: ScanOptions): Promise<string[]> {
  const scanner = new Scanner(options);
  const finished: string[] = [];
  for (let pass = 1; pass <= PASSES_UNTIL_LOST && !options.signal.aborted; pass++) {
    const result = await scanner.pass(pass === PASSES_UNTIL_LOST);
    finished.push(...result.finished);
    if (result.doubtful === 0) break;
    const pause = options.intervalMs ?? ONCE_PAUSE_MS;
    await setTimeout(pause, undefined, { signal: options.signal }).catch(() => undefined);
  }
  return finished;
}

/** What is remembered of a job between passes. */
interface Memory {
  job: ScannedJob;
  unknownPasses: number;
  failedPasses: number;
}

class Scanner {
  readonly #options: ScanOptions;
  readonly #directories: ControlDirectory[];
  readonly #memories = new Map<string, Memory>();
  /** The last complaint of each kind, so that a server that stays away fills no log. */
  readonly #complaints = new Map<string, string>();

  constructor(options: ScanOptions) {
    this.#options = options;
    this.#directories = options.controlDirectories.map(openControlDirectory);
  }

  /** @param last do without what cannot be read now */
  async pass(last = false): Promise<PassResult> {
    const result: PassResult = { finished: [], doubtful: 0 };
    // The jobs first: one that is submitted in between is then not taken for lost.
    const jobs = this.#directories.map((directory) => ({ directory, memories: this.#openJobs(directory) }));
    if (jobs.every(({ memories }) => memories.length === 0)) return result;
    const known = await this.#askTorque();
    if (known === undefined) return { ...result, doubtful: 1 };
    for (const { directory, memories } of jobs) {
      const finished: string[] = [];
      for (const memory of memories) {
        if (this.#options.signal.aborted) break;
        const state = await this.#look(memory, directory, known, last);
        if (state === 'finished') finished.push(memory.job.gridId);
        if (state === 'doubtful') result.doubtful++;
        await setImmediate(); // a signal gets through between two jobs, never within one
      }
      await this.#kick(directory, finished);
      result.finished.push(...finished);
    }
    return result;
  }

  /** Jobs in INLRMS or CANCELING that were not reported yet. */
  #openJobs(directory: ControlDirectory): Memory[] {
    const gridIds = directory.listProcessing();
    const open: Memory[] = [];
    const present = new Set(gridIds.map((gridId) => directory.jobFile(gridId, 'local')));
    for (const key of this.#memories.keys())
      if (key.startsWith(`${directory.path}/`) && !present.has(key)) this.#memories.delete(key);
    for (const gridId of gridIds) {
      const status = directory.readStatus(gridId);
      if (status !== 'INLRMS' && status !== 'CANCELING') continue;
      if (existsSync(directory.jobFile(gridId, 'lrms_done'))) continue;
      const memory = this.#remember(gridId, directory);
      if (memory === undefined) continue;
      memory.job.cancelled = status === 'CANCELING';
      open.push(memory);
    }
    return open;
  }

  #remember(gridId: string, directory: ControlDirectory): Memory | undefined {
    const path = directory.jobFile(gridId, 'local');
    const known = this.#memories.get(path);
    // A-REX adds the local id when the job is in INLRMS.
    if (known?.job.localId !== undefined) return known;
    const job = this.#readJob(gridId, path);
    if (job === undefined) return undefined;
    const memory = { unknownPasses: 0, failedPasses: 0, ...known, job };
    this.#memories.set(path, memory);
    return memory;
  }

  /** The job's account is the owner of its `.local` file, which A-REX wrote in its own directory. */
  #readJob(gridId: string, path: string): ScannedJob | undefined {
    try {
      const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
      try {
        const { uid, gid } = fstatSync(fd);
        if (uid === 0) {
          this.#complain(path, `${path}: belongs to root; A-REX ignores such jobs, and so does scan`);
          return undefined;
        }
        const { localId, sessionDirectory } = parseLocal(readFileSync(fd, 'latin1'));
        return {
          gridId,
          account: { uid, gid },
          sessionDirectory: sessionDirectory === undefined ? undefined : decodeBytes(sessionDirectory),
          localId,
          cancelled: false,
        };
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      this.#complain(path, `${path}: cannot be read (${errnoOf(error) ?? 'unknown error'})`);
      return undefined;
    }
  }

  async #askTorque(): Promise<Map<string, TorqueJob> | undefined> {
    try {
      const jobs = await qstatJobs(this.#options.torque, this.#options.signal);
      this.#complain('qstat', undefined);
      return new Map(jobs.map((job) => [job.id, job]));
    } catch (error) {
      // Nothing is known of any job: not the same as knowing that it is gone.
      if (!this.#options.signal.aborted) this.#complain('qstat', toVmbatchError(error).message);
      return undefined;
    }
  }

  async #look(
    memory: Memory,
    directory: ControlDirectory,
    known: ReadonlyMap<string, TorqueJob>,
    last: boolean,
  ): Promise<'running' | 'finished' | 'doubtful'> {
    const { job } = memory;
    let torque = job.localId === undefined ? undefined : known.get(job.localId);
    try {
      if (torque === undefined) {
        if (++memory.unknownPasses < PASSES_UNTIL_LOST) return 'doubtful';
        torque = await this.#askForJob(job.localId);
      }
      if (torque !== undefined && torque.state !== 'C') {
        memory.unknownPasses = 0;
        return 'running';
      }
    } catch (error) {
      if (!this.#options.signal.aborted)
        this.#complain(job.gridId, `job ${job.gridId}: ${toVmbatchError(error).message}`);
      return 'doubtful';
    }
    try {
      const insist = !last && memory.failedPasses < PASSES_UNTIL_WITHOUT_DIAG;
      const { outcome, problems } = finishJob(job, directory, torque, insist);
      for (const problem of problems) this.#options.log(`job ${job.gridId}: ${problem}`);
      const what = outcome.text === '' ? 'exit code 0' : `${outcome.code} ${outcome.text}`;
      this.#options.log(`job ${job.gridId} (${job.localId ?? 'no batch job'}) ended: ${what}`);
      this.#memories.delete(directory.jobFile(job.gridId, 'local'));
      this.#complaints.delete(job.gridId);
      return 'finished';
    } catch (error) {
      memory.failedPasses++;
      this.#complain(job.gridId, `job ${job.gridId}: ${toVmbatchError(error).message}`);
      return 'doubtful';
    }
  }

  /** An id that TORQUE cannot have given is one that it does not know. */
  async #askForJob(localId: string | undefined): Promise<TorqueJob | undefined> {
    if (localId === undefined || !isJobId(localId)) return undefined;
    return await qstatJob(this.#options.torque, localId, this.#options.signal);
  }

  async #kick(directory: ControlDirectory, gridIds: readonly string[]): Promise<void> {
    if (gridIds.length === 0) return;
    const program = this.#options.gmKick ?? findGmKick();
    if (program === undefined) return;
    const problem = await gmKick(this.#options.torque.run, program, directory, gridIds);
    this.#complain('gm-kick', problem);
  }

  #complain(kind: string, complaint: string | undefined): void {
    if (this.#complaints.get(kind) === complaint) return;
    if (complaint === undefined) this.#complaints.delete(kind);
    else {
      this.#complaints.set(kind, complaint);
      this.#options.log(complaint);
    }
  }
}
