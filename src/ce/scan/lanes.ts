// Reporting jobs that are over, account by account and beside each other: a file server that is away keeps
// nobody waiting but those whose files are on it.
import { dirname } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { openUserFiles, type UserFiles } from '../../util/accounts/as-user.ts';
import { toVmbatchError } from '../../util/errors.ts';
import { type Finished, finishJobs } from '../finish/finish.ts';
import { type ConfirmedJob, confirm, type ReadyJob, type ReportOptions, settle } from './report.ts';
import type { WatchedJob, WatchList } from './watch.ts';

/** Jobs between two looks at the signal. */
const JOBS_A_BATCH = 32;

/** How long a job is left alone whose files do not answer; doubled each time. Milliseconds. */
const HUNG_PAUSE_MS = 5_000;
const LONGEST_HUNG_PAUSE_MS = 300_000;

/** Lanes that are busy at the same time: a process each. */
const MAX_BUSY = 16;
/** Session directories of one account may be on several file servers; but a folder's name may be the
 * account's invention. */
const MAX_BUSY_OF_ACCOUNT = 4;

/** Lanes that keep their process for the next job, and for how long. An account that had a job ends is likely
 * to have another, and Node takes its time to start. */
const MAX_IDLE = 4;
const IDLE_MS = 30_000;

/** How long jobs that are being reported are waited for, when the scan is told to end. Milliseconds. */
const END_MS = 2_000;

/** Jobs of one account below one folder. */
interface Lane {
  account: string;
  folder: string;
  watch: WatchList;
  files: UserFiles;
  jobs: ConfirmedJob[];
  /** Undefined: it is idle. */
  running: Promise<void> | undefined;
}

/** A job that could not be reported, since its files do not answer. */
interface Deferred {
  until: number;
  times: number;
}

export class Reporter {
  readonly #options: ReportOptions;
  /** By control directory, account and folder; those that were busy last stand last. */
  readonly #lanes = new Map<string, Lane>();
  readonly #busy = new Set<WatchedJob>();
  readonly #deferred = new Map<WatchedJob, Deferred>();
  #reported: WatchedJob[] = [];
  #postponed: ReadyJob[] = [];

  constructor(options: ReportOptions) {
    this.#options = options;
  }

  /** Whether jobs are being reported still. */
  get isBusy(): boolean {
    return this.#busy.size > 0;
  }

  /** Reports the jobs that A-REX waits for.
   * @param patienceMs how long to wait: what takes longer goes on by itself. Undefined: until all is done
   * @returns what was reported since the last time, and jobs that are to be brought again */
  async report(
    ready: readonly ReadyJob[],
    patienceMs: number | undefined,
  ): Promise<{ reported: WatchedJob[]; postponed: ReadyJob[] }> {
    const now = Date.now();
    for (const job of this.#deferred.keys())
      if (job.watch.jobs.get(job.gridId) !== job) this.#deferred.delete(job);
    for (const one of ready) {
      if (this.#busy.has(one.job)) continue;
      if ((this.#deferred.get(one.job)?.until ?? 0) > now) this.#postponed.push(one);
      else this.#take(one);
    }
    for (const lane of this.#lanes.values())
      if (lane.jobs.length > 0) lane.running ??= this.#run(lane).finally(() => this.#rest(lane));
    await this.#wait(patienceMs);
    const [reported, postponed] = [this.#reported, this.#postponed];
    this.#reported = [];
    this.#postponed = [];
    return { reported, postponed };
  }

  /** Ends what still goes on: it counts as not reported. */
  async end(): Promise<void> {
    await this.#wait(END_MS);
    for (const { files } of this.#lanes.values()) files.close();
  }

  async #wait(milliseconds: number | undefined): Promise<void> {
    const running = [...this.#lanes.values()].flatMap((lane) => lane.running ?? []);
    if (running.length === 0) return;
    const over = new AbortController();
    const late = setTimeout(milliseconds ?? 2 ** 31 - 1, undefined, over).catch(() => undefined);
    await Promise.race([Promise.all(running), late]);
    over.abort();
  }

  #take(one: ReadyJob): void {
    const confirmed = confirm(one, this.#options);
    if (confirmed === undefined) return;
    const lane = this.#laneOf(confirmed);
    if (lane === undefined) {
      this.#postponed.push(one);
      return;
    }
    this.#busy.add(one.job);
    lane.jobs.push(confirmed);
  }

  /** Undefined: no more can be done at the same time. */
  #laneOf({ ended: { account, sessionDirectory }, job: { watch } }: ConfirmedJob): Lane | undefined {
    const ids = `${account.uid}:${account.gid}`;
    const folder = sessionDirectory === undefined ? '' : dirname(sessionDirectory);
    const name = `${watch.directory.path} ${ids} ${folder}`;
    const known = this.#lanes.get(name);
    if (known?.running !== undefined) return known;
    const busy = [...this.#lanes.values()].filter(({ running, jobs }) => running ?? jobs.length > 0);
    const ofAccount = busy.filter((lane) => lane.account === ids);
    if (busy.length >= MAX_BUSY || ofAccount.length >= MAX_BUSY_OF_ACCOUNT) return undefined;
    const files =
      known?.files ?? openUserFiles(account, { deadlineMs: this.#options.fileMs, idleMs: IDLE_MS });
    const lane = known ?? { account: ids, folder, watch, files, jobs: [], running: undefined };
    this.#lanes.delete(name);
    this.#lanes.set(name, lane);
    return lane;
  }

  async #run(lane: Lane): Promise<void> {
    const { signal, complain } = this.#options;
    const timesOf = ({ job }: ConfirmedJob) => this.#deferred.get(job)?.times ?? 0;
    while (lane.jobs.length > 0) {
      // Those that hung come last, so that they keep the fewest waiting.
      const batch = lane.jobs.sort((a, b) => timesOf(a) - timesOf(b)).splice(0, JOBS_A_BATCH);
      try {
        const ends = signal.aborted
          ? batch.map((): Finished => ({ result: 'put-off' }))
          : await finishJobs(
              batch.map(({ ended }) => ended),
              lane.watch.directory,
              lane.files,
            );
        for (const [at, one] of batch.entries()) this.#settle(lane, one, ends[at] ?? { result: 'put-off' });
      } catch (error) {
        complain(`report ${lane.folder}`, `a report failed: ${toVmbatchError(error, 'site').message}`);
      } finally {
        for (const { job } of batch) this.#busy.delete(job);
      }
    }
  }

  #settle(lane: Lane, { job, ready }: ConfirmedJob, end: Finished): void {
    const { complain, signal } = this.#options;
    const about = `files of ${lane.account} in ${lane.folder}`;
    const known = this.#deferred.get(job);
    if (end.result === 'put-off' || (end.result === 'failed' && signal.aborted)) this.#postponed.push(ready);
    else if (end.result === 'hung') {
      const times = (known?.times ?? 0) + 1;
      const pause = Math.min(HUNG_PAUSE_MS * 2 ** Math.min(times - 1, 10), LONGEST_HUNG_PAUSE_MS);
      this.#deferred.set(job, { until: Date.now() + pause, times });
      this.#postponed.push(ready);
      complain(
        about,
        `${lane.folder} does not answer: is its file server up? The jobs of uid ${job.uid} there are reported when it does, the others meanwhile`,
      );
    } else {
      this.#deferred.delete(job);
      complain(about, undefined);
      if (settle(job, end, this.#options)) {
        job.watch.release(job.gridId);
        this.#reported.push(job);
      }
    }
  }

  #rest(lane: Lane): void {
    lane.running = undefined;
    const idle = [...this.#lanes].filter(
      ([, { running, jobs }]) => running === undefined && jobs.length === 0,
    );
    for (const [name, { files }] of idle.slice(0, Math.max(0, idle.length - MAX_IDLE))) {
      files.close();
      this.#lanes.delete(name);
    }
  }
}
