// One pass of scan over all control directories: what ended is looked for in the cheapest place, made sure
// of, reported.
import { setImmediate, setTimeout } from 'node:timers/promises';
import { openControlDirectory } from '../../arc/control-directory.ts';
import { isRefused } from '../../arc/refused-id.ts';
import type { Torque } from '../../batch/torque/commands.ts';
import { toVmbatchError } from '../../util/errors.ts';
import type { BatchRecord } from '../finish/outcome.ts';
import { Absentees } from './absentees.ts';
import { PerformanceLog } from './durations.ts';
import { Kicks } from './gm-kick.ts';
import { Reporter } from './lanes.ts';
import { OtherNames } from './other-names.ts';
import type { ReadyJob } from './report.ts';
import { Saving } from './saving.ts';
import { type Complain, EndSources, toRecord } from './sources.ts';
import { type Over, Suspects } from './suspects.ts';
import { DELIVERY_MS, hintsAtEnd, Traces } from './traces.ts';
import { JobIndex, type WatchedJob, WatchList } from './watch.ts';

export interface ScanOptions {
  controlDirectories: readonly string[];
  torque: Torque;
  /** Where lines for the admin go (A-REX's `helperlog`). */
  log: (line: string) => void;
  /** Ends the scan between two jobs. */
  signal: AbortSignal;
  /** `[lrms] pbs_log_path`: TORQUE's server logs; undefined: TORQUE is asked for its jobs. */
  logDirectory?: string | undefined;
  /** Whether the guests write into the session directories themselves; else TORQUE brings `.diag`. Default
   * yes. */
  sharedFilesystem?: boolean;
  /** Where performance logs go; undefined: none. */
  perflogDirectory?: string | undefined;
  /** Milliseconds between questions for all jobs, at best. Default 5 s. */
  intervalMs?: number;
  /** gm-kick; undefined: as `findGmKick` says. */
  gmKick?: string | undefined;
  /** How long a file of a job may take to answer. Default: 15 s. Milliseconds. */
  fileMs?: number;
}

/** After this many comparisons in a row without a job, TORQUE is asked for it by its id: it is lost only if
 * TORQUE says so. */
const PASSES_UNTIL_LOST = 3;

const FILE_MS = 15_000;

/** How long a pass waits for the reports that it began. Milliseconds. */
const REPORT_MS = 1_000;

export class Scanner {
  readonly #options: ScanOptions;
  readonly #watches: WatchList[];
  readonly #absentees: Absentees[];
  readonly #kicks: Kicks;
  readonly #index = new JobIndex();
  readonly #isWatched = (localId: string) => this.#index.get(localId).length > 0;
  readonly #traces = new Traces(this.#isWatched);
  readonly #otherNames: OtherNames;
  readonly #saving: Saving;
  readonly #suspects: Suspects;
  readonly #sources: EndSources;
  readonly #perflog: PerformanceLog;
  readonly #reporter: Reporter;
  /** The last complaint of each kind, so that a server that stays away fills no log. */
  readonly #complaints = new Map<string, string>();
  #ready = new Map<WatchedJob, ReadyJob>();
  /** There are jobs that TORQUE did not list, or whose end the log may have told before we knew them. */
  #doubtful = false;
  #firstPass = true;
  #compared = false;
  #comparisons = 0;
  #questions: Promise<void> | undefined;
  /** There is more of the log than was read: what it says of a job's end may not be its last word. */
  #behind = false;

  /** @throws VmbatchError `site` if a control directory is none */
  constructor(options: ScanOptions) {
    this.#options = options;
    const directories = options.controlDirectories.map(openControlDirectory);
    this.#perflog = new PerformanceLog(options.perflogDirectory);
    this.#otherNames = new OtherNames(this.#index, this.#traces, this.#complain);
    this.#suspects = new Suspects(this.#traces, options.sharedFilesystem ?? true);
    this.#reporter = this.#makeReporter();
    this.#watches = directories.map((directory) => new WatchList(directory, this.#index, this.#complain));
    const { torque, log, signal } = options;
    const shared = { torque, log, signal, complain: this.#complain, isWatched: this.#isWatched };
    const remembered = this.#watches.map((watch) => {
      return { watch, absentees: new Absentees({ ...shared, directory: watch.directory }) };
    });
    this.#absentees = remembered.map(({ absentees }) => absentees);
    this.#kicks = new Kicks({ ...options, complain: this.#complain });
    this.#saving = new Saving(remembered, this.#traces, this.#complain);
    const states = this.#saving.restore(this.#suspects, log);
    this.#sources = new EndSources({
      torque: options.torque,
      signal: options.signal,
      complain: this.#complain,
      logDirectory: options.logDirectory,
      positions: states[0]?.log,
      comparedAt: Math.min(...states.map((state) => state?.comparedAt ?? 0)),
      intervalMs: options.intervalMs ?? 5_000,
    });
  }

  get followsLog(): boolean {
    return this.#sources.followsLog();
  }

  /** Whether the next pass has work to do already. */
  get isBehind(): boolean {
    return this.#behind;
  }

  /** What can be known at once is acted upon at once; questions to TORQUE, which may take minutes, go on
   * beside the next passes, and their answers are acted upon there.
   * @returns grid ids of the jobs that were reported */
  async pass(): Promise<string[]> {
    this.#lookAround();
    this.#judge();
    const reported = await this.#report(REPORT_MS);
    await this.#kicks.send();
    this.#questions ??= this.#askTorque(false)
      .catch((error: unknown) => this.#complain('questions', toVmbatchError(error, 'site').message))
      .finally(() => {
        this.#questions = undefined;
      });
    this.#save(false);
    return reported;
  }

  /** A pass without a next one: every answer is waited for.
   * @returns grid ids of the jobs that were reported */
  async onlyPass(): Promise<string[]> {
    this.#lookAround();
    while (this.#behind && !this.#options.signal.aborted) {
      await setImmediate();
      this.#readLog();
    }
    if (this.#judge()) {
      await setTimeout(DELIVERY_MS);
      this.#judge();
    }
    const reported = await this.#report(undefined);
    await this.#askTorque(true);
    reported.push(...(await this.#report(undefined)));
    await this.#reporter.end();
    await this.#kicks.send();
    this.#save(true);
    return reported;
  }

  /** Waits for the questions that are open; they end with the signal. */
  async end(): Promise<void> {
    await this.#questions;
    await this.#reporter.end();
    this.#save(true);
  }

  #lookAround(): void {
    const started = performance.now();
    // The log first: then it has told of most new jobs, and TORQUE need not be asked for them. Only at the
    // start there may be more in it than is remembered of jobs that nobody waits for.
    if (!this.#firstPass) this.#readLog();
    const welcome: WatchedJob[] = [];
    for (const [at, watch] of this.#watches.entries()) {
      const { path } = watch.directory;
      try {
        const { added, left, reported } = watch.look();
        this.#complain(path, undefined);
        welcome.push(...added);
        this.#absentees[at]?.add(left);
        this.#kicks.add(watch.directory, reported);
      } catch (error) {
        this.#complain(path, `${path}: ${toVmbatchError(error, 'site').message}`);
      }
      this.#perflog.writeSystem(path);
    }
    if (this.#firstPass) this.#readLog();
    if (welcome.length > 0) this.#otherNames.adopt(welcome.map(({ localId }) => localId));
    for (const job of welcome) this.#welcome(job);
    this.#firstPass = false;
    this.#perflog.write('ControlDirTraversal', performance.now() - started);
  }

  /** A piece of the log: signals must get through, however much there is. */
  #readLog(): void {
    const { events, more } = this.#sources.readLog();
    this.#behind = more;
    for (const heard of events) {
      const event = this.#otherNames.resolve(heard);
      if (!this.#traces.note(event)) continue;
      const [job] = this.#index.get(event.jobId);
      if (job === undefined) continue;
      this.#suspects.hear(event);
      // Whether it is this job that the line is about, TORQUE knows better.
      if (event !== heard) this.#suspects.doubt(event.jobId);
      job.watch.dirty = true;
      if (event.kind === 'ended') this.#sources.trustLog(true);
    }
  }

  #welcome(job: WatchedJob): void {
    if (isRefused(job.localId)) this.#ready.set(job, { job, batch: undefined, settled: true });
    else if (hintsAtEnd(this.#traces.get(job.localId))) {
      // Whether it is this job that the lines were about, TORQUE knows better.
      if (this.#traces.otherName(job.localId) === undefined) this.#suspects.add(job.localId);
      else this.#suspects.doubt(job.localId);
    } else if (this.#firstPass) this.#doubtful = true;
    // Submitted before this process began to read: the lines about it may have been read by the one before,
    // too early to be of use to it.
    else if (this.followsLog && this.#traces.get(job.localId)?.enqueued !== true)
      this.#suspects.doubt(job.localId);
  }

  /** @returns whether there are jobs whose output is about to be brought */
  #judge(): boolean {
    if (this.#behind) return false;
    const { over, soon } = this.#suspects.judge(this.#isWatched);
    for (const one of over) this.#makeReady(one, false);
    return soon;
  }

  async #askTorque(once: boolean): Promise<void> {
    const started = performance.now();
    const compared = await this.#compareIfDue(once);
    const over = await this.#suspects.ask(this.#sources, (localId) => {
      for (const job of this.#index.get(localId)) this.#doubt(job, 0);
    });
    for (const one of over) this.#makeReady(one, true);
    for (const absentees of this.#absentees) await absentees.check(this.#sources);
    if (compared) this.#perflog.write('JobProcessing', performance.now() - started);
  }

  async #compareIfDue(once: boolean): Promise<boolean> {
    const force = once && (!this.#sources.followsLog() || this.#doubtful);
    if (!force && !this.#sources.isComparisonDue(this.#doubtful)) return false;
    // Those that come while TORQUE answers may be missing from its answer.
    const asked = this.#watches.flatMap(({ jobs }) => [...jobs.values()]);
    if (asked.length === 0) return false;
    const comparison = ++this.#comparisons;
    const complete = await this.#sources.compare((element) => {
      const jobs = this.#index.get(element.id);
      if (jobs.length === 0) return this.#otherNames.note(element);
      for (const job of jobs) job.listed = comparison;
      if (element.state === 'C') this.#takeComplete(element.id, toRecord(element.parse()));
    });
    const isListed = (localId: string) =>
      this.#index.get(localId).some(({ listed }) => listed === comparison);
    const found = this.#otherNames.settle(isListed);
    if (!complete) return false;
    for (const { localId, record } of found) {
      for (const job of this.#index.get(localId)) job.listed = comparison;
      if (record !== undefined) this.#takeComplete(localId, record);
    }
    this.#compared = true;
    this.#doubtful = false;
    for (const job of asked) {
      if (job.listed === comparison) this.#doubt(job, 0);
      else if (!isRefused(job.localId)) {
        this.#doubtful = true;
        this.#doubt(job, job.doubts + 1);
        if (job.doubts >= PASSES_UNTIL_LOST) this.#suspects.doubt(job.localId);
      }
    }
    return true;
  }

  #takeComplete(localId: string, record: BatchRecord): void {
    const trace = this.#traces.get(localId);
    this.#sources.noteComplete(record, hintsAtEnd(trace));
    const batch = { ...record, deletedBy: trace?.deletedBy };
    this.#makeReady({ localId, batch, settled: true }, true);
  }

  /** @param better whether this is better known than what was said of the job before */
  #makeReady({ localId, ...over }: Over, better: boolean): void {
    for (const job of this.#index.get(localId))
      if (better || !this.#ready.has(job)) this.#ready.set(job, { job, ...over });
  }

  #doubt(job: WatchedJob, doubts: number): void {
    if (job.doubts === doubts) return;
    job.doubts = doubts;
    job.watch.dirty = true;
  }

  #makeReporter(): Reporter {
    return new Reporter({
      log: this.#options.log,
      complain: this.#complain,
      signal: this.#options.signal,
      suspects: this.#suspects,
      fileMs: this.#options.fileMs ?? FILE_MS,
      onReported: (job: WatchedJob) => {
        // Another grid job that names the same batch job may have to wait for the rest of its end.
        if (this.#index.get(job.localId).some((other) => other !== job)) return;
        this.#suspects.forget(job.localId);
        this.#traces.forget(job.localId);
      },
    });
  }

  /** @param patienceMs undefined: until all is done that can be done */
  async #report(patienceMs: number | undefined): Promise<string[]> {
    const ready = [...this.#ready.values()].filter(({ job }) => job.watch.jobs.get(job.gridId) === job);
    this.#ready = new Map();
    const { reported, postponed } = await this.#reporter.report(ready, patienceMs);
    // Meanwhile more may have become known of them.
    for (const one of postponed) if (!this.#ready.has(one.job)) this.#ready.set(one.job, one);
    for (const watch of this.#watches) {
      const theirs = reported.filter((job) => job.watch === watch);
      this.#kicks.add(
        watch.directory,
        theirs.map(({ gridId }) => gridId),
      );
    }
    return reported.map(({ gridId }) => gridId);
  }

  #save(now: boolean): void {
    // The next scan looks for jobs that A-REX was not told of only if there are files that are newer than the
    // state.
    if (this.#kicks.isUnsent) return;
    const progress = {
      positions: this.#sources.positions,
      // The next scan must not rely on this comparison for jobs that were found out and not reported yet.
      comparedAt: this.#isUnwritten ? 0 : this.#sources.comparedAt,
      // Without a log, TORQUE is asked all the time anyway.
      compared: this.#compared && this.followsLog,
    };
    if (this.#saving.save(progress, now)) this.#compared = false;
  }

  /** Whether there are ends that only this process knows of. */
  get #isUnwritten(): boolean {
    return this.#doubtful || this.#suspects.unwritten || this.#ready.size > 0 || this.#reporter.isBusy;
  }

  readonly #complain: Complain = (about, complaint) => {
    if (this.#complaints.get(about) === complaint) return;
    if (complaint === undefined) this.#complaints.delete(about);
    else {
      this.#complaints.set(about, complaint);
      this.#options.log(complaint);
    }
  };
}
