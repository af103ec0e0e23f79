// One attempt at a job on its mom: prologue, job, epilogue, delivery, report. Written down at each change of
// phase, so that a mom started later knows as much as TORQUE's does.
import { chmodSync, chownSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseDuration } from '../common/format.ts';
import type { Pair, StartMessage } from '../common/protocol.ts';
import { type MomConfig, readMomConfig, readPbsEnvironment } from './config.ts';
import { jobFile } from './job-file.ts';
import { launch } from './launch.ts';
import type { Mom } from './mom.ts';
import { tellUser, usedAtEnd } from './outcome.ts';
import { isAlive, sessionUsage, signalSession } from './processes.ts';
import {
  deliverSpec,
  epilogueSpec,
  type JobFiles,
  jobFiles,
  type Spec,
  sisterSpec,
  startSpec,
} from './spec.ts';

export interface JobRecord {
  message: StartMessage;
  phase: 'prologue' | 'running' | 'epilogue' | 'obit';
  /** Milliseconds. */
  begun: number;
  jobBegun?: number | undefined;
  session?: number | undefined;
  sessionStart?: string | undefined;
  exitStatus?: number | undefined;
  used?: Pair[] | undefined;
}

/** Ends of an attempt before the job ran: nothing is delivered. */
const NEVER_STARTED = new Set([-1, -2, -3, -4, -9, -13, -14]);
/** How a mom's log names failures to start. Only that of -2 was recorded. */
const START_FAILURES: ReadonlyMap<number, string> = new Map([
  [-1, 'before files staged, no retry'],
  [-2, 'after files staged, no retry'],
  [-9, 'output files could not be created'],
  [-14, 'prologue failed, retry will be attempted'],
]);
/** What is left of a job gets this long after its top process died of our SIGTERM. */
const GRACE_MS = 100;
/** When a running job is first looked at; afterwards at every check_poll_time. */
const FIRST_SAMPLE_MS = 3_000;

export class MomJob {
  readonly record: JobRecord;
  readonly files: JobFiles;
  private readonly mom: Mom;
  private terminated = false;
  private overWalltime = false;
  private sampled: Pair[] | undefined;
  private finishing = false;
  private readonly timers: NodeJS.Timeout[] = [];
  /** Resolves when the start is over, one way or the other. */
  readonly started: Promise<void>;
  private settleStart: () => void = () => undefined;

  constructor(mom: Mom, record: JobRecord) {
    this.mom = mom;
    this.record = record;
    this.files = jobFiles(mom.paths, record.message);
    this.files.token = join(mom.paths.jobs, `${this.id}.${record.message.attempt}.TK`);
    this.started = new Promise((resolve) => {
      this.settleStart = resolve;
    });
  }

  get id(): string {
    return this.record.message.id;
  }

  private get place(): { paths: Mom['paths']; node: string; config: MomConfig; environment: Pair[] } {
    const { paths, node } = this.mom;
    return {
      paths,
      node,
      config: readMomConfig(paths.config),
      environment: readPbsEnvironment(paths.environment),
    };
  }

  private save(values: Partial<JobRecord>): void {
    Object.assign(this.record, values);
    writeFileSync(`${this.files.record}.new`, JSON.stringify(this.record), { mode: 0o600 });
    renameSync(`${this.files.record}.new`, this.files.record);
  }

  /** TORQUE has its own file of a job only when it no longer waits for the job's start: `req_commit` in its
   * mom_req_quejob.c. */
  private writeJobFile(): void {
    const { message, begun } = this.record;
    writeFileSync(`${this.files.job}.new`, jobFile(message, this.mom.node, begun), { mode: 0o600 });
    renameSync(`${this.files.job}.new`, this.files.job);
  }

  private later(milliseconds: number, action: () => void): void {
    this.timers.push(setTimeout(action, milliseconds));
  }

  start(): void {
    const { message } = this.record;
    rmSync(this.files.script, { force: true });
    writeFileSync(this.files.script, Buffer.from(message.script, 'base64'), { mode: 0o700, flag: 'wx' });
    chmodSync(this.files.script, 0o700);
    chownSync(this.files.script, message.uid, message.gid);
    message.script = '';
    writeFileSync(this.files.nodeFile, message.nodeFile.map((name) => `${name}\n`).join(''), { mode: 0o644 });
    writeFileSync(this.files.token, '', { mode: 0o600 });
    this.save({ phase: 'prologue' });
    const { place } = this;
    this.later(place.config.jobStartBlockSeconds * 1000, () => {
      this.writeJobFile();
      if (this.record.phase === 'prologue' && !this.finishing) {
        this.mom.tell({ kind: 'slow-start', id: this.id, attempt: message.attempt });
      }
    });
    void this.startOnAll(startSpec(message, this.files, place));
  }

  /** The other nodes first, as TORQUE's moms do: a job whose join one of them refuses is tried again. */
  private async startOnAll(spec: Spec): Promise<void> {
    const answers = await Promise.all(this.sisters().map((sister) => this.runSister(sister, undefined)));
    if (answers.some((code) => code !== 0)) {
      this.mom.log('08', 'Req', 'send_sisters', `sending ABORT to sisters for job ${this.id}`);
      this.finish(-3);
      return;
    }
    if (this.finishing) return;
    await launch(this.mom.paths, 'start', this.id, spec, (words) => this.take(words));
    this.launcherGone();
  }

  /** The other nodes of the job; their hooks are run from here, with what is theirs. */
  private sisters(): { node: string; rank: number }[] {
    return [...new Set(this.record.message.nodeFile)].map((node, rank) => ({ node, rank })).slice(1);
  }

  private async runSister(
    { node, rank }: { node: string; rank: number },
    end: { used: Pair[]; exitStatus: number } | undefined,
  ): Promise<number> {
    const { message } = this.record;
    const paths = this.mom.pathsOf(node);
    const place = {
      paths,
      node,
      config: readMomConfig(paths.config),
      environment: readPbsEnvironment(paths.environment),
    };
    const spec = sisterSpec(message, jobFiles(paths, message), place, rank, end);
    let code = 255;
    await launch(paths, 'sister', `${this.id}.${rank}`, spec, ([kind, value = '']) => {
      if (kind === 'sister') code = Number(value);
    });
    return code;
  }

  private take([kind = '', first = '', second = '']: string[]): void {
    if (kind === 'job') this.running(Number(first), second);
    else if (kind === 'end') this.finish(Number(first));
    else if (kind === 'failed') {
      this.logFailedStart(Number(first));
      this.finish(Number(first));
    }
  }

  private logFailedStart(code: number): void {
    const why = START_FAILURES.get(code) ?? `code ${code}`;
    const text = `job not started, Failure job exec failure, ${why} (see syslog for more information)`;
    this.mom.log('01', 'Job', 'TMomFinalizeJob3', text);
    // Who notices depends on whether the mom still waits for this start.
    const waitedFor = Date.now() - this.record.begun < this.place.config.jobStartBlockSeconds * 1000;
    if (waitedFor)
      this.mom.log('01', 'Job', 'exec_job_on_ms', `ALERT:  job failed phase 3 start - jobid ${this.id}`);
    else this.mom.log('01', 'Job', 'TMOMScanForStarting', `job ${this.id} failed after TMomFinalizeJob3`);
    this.mom.log('01', 'Job', 'exec_bail', `bailing on job ${this.id} code ${code}`);
    this.mom.log('08', 'Req', 'send_sisters', `sending ABORT to sisters for job ${this.id}`);
  }

  private running(session: number, sessionStart: string): void {
    this.save({ phase: 'running', session, sessionStart, jobBegun: Date.now() });
    this.writeJobFile();
    this.settleStart();
    this.mom.log('01', 'Job', 'TMomFinalizeJob3', `job ${this.id} started, pid = ${session}`);
    // Given up in the moment before it started.
    if (this.finishing) this.signalAll(session, sessionStart, 'SIGKILL');
    else this.mom.tell({ kind: 'started', id: this.id, attempt: this.record.message.attempt, session });
    this.later(FIRST_SAMPLE_MS, () => this.sample());
  }

  /** The launcher ended without a word: somebody killed it, or it found its token gone. */
  private launcherGone(): void {
    if (this.finishing) return;
    if (this.record.phase === 'running') this.watch();
    else this.finish(-1);
  }

  /** For a job whose launcher does not report to us: its exit status can never be known. */
  watch(): void {
    const { session = 0, sessionStart = '' } = this.record;
    this.settleStart();
    if (!isAlive(session, sessionStart)) this.finish(0);
    else this.later(250, () => this.watch());
  }

  signal(signal: string): void {
    const { phase, session = 0, sessionStart = '' } = this.record;
    if (phase === 'running') {
      if (signal === 'SIGTERM') this.terminated = true;
      this.signalAll(session, sessionStart, signal);
    } else if (phase === 'prologue' && signal === 'SIGKILL') this.finish(0);
  }

  /** To every process of the job, each with a line in the log. */
  private signalAll(session: number, sessionStart: string, signal: string): void {
    const number = constants.signals[signal as NodeJS.Signals] ?? signal;
    for (const pid of signalSession(session, sessionStart, signal))
      this.mom.log('08', 'Job', this.id, `kill_task: killing pid ${pid} task 1 with sig ${number}`);
  }

  /** SIGTERM, and SIGKILL after the kill delay. */
  kill(): void {
    if (this.record.phase === 'prologue') {
      this.finish(0);
      return;
    }
    this.signal('SIGTERM');
    this.later(this.record.message.killDelaySeconds * 1000, () => this.signal('SIGKILL'));
  }

  private seconds(): number {
    return (Date.now() - (this.record.jobBegun ?? this.record.begun)) / 1000;
  }

  sample(): void {
    const { phase, session, sessionStart } = this.record;
    if (phase !== 'running' || session === undefined || sessionStart === undefined) return;
    if (this.seconds() * 1000 < FIRST_SAMPLE_MS) return;
    this.sampled = sessionUsage(session, sessionStart, this.seconds());
    this.mom.tell({ kind: 'used', id: this.id, used: this.sampled });
  }

  /** Ends the job when it is over its walltime. Only called at every check_poll_time. */
  checkWalltime(): void {
    const limit = parseDuration(
      this.record.message.resources.find(([name]) => name === 'walltime')?.[1] ?? '',
    );
    const spent = Math.floor(this.seconds());
    if (this.record.phase !== 'running' || this.overWalltime || limit === undefined || spent <= limit) return;
    this.overWalltime = true;
    this.sample();
    const over = `walltime ${spent} exceeded limit ${limit}`;
    const error = `LOG_ERROR::Resource limit exceeds allowable (15050) in mom_over_limit, ${over}`;
    this.mom.log('01', 'Svr', 'pbs_mom', error);
    this.mom.log('08', 'Job', this.id, over);
    tellUser(this.files.err, `=>> PBS: job killed: walltime ${spent} exceeded limit ${limit}\n`);
    this.kill();
  }

  /** The attempt is over with this status; what happens next does not depend on how it came. */
  finish(status: number): void {
    if (this.finishing) return;
    this.finishing = true;
    for (const timer of this.timers) clearTimeout(timer);
    this.wrapUp(this.overWalltime ? -11 : status).catch((thrown: unknown) => {
      this.mom.log('01', 'Svr', 'pbs_mom', `LOG_ERROR::${this.id}: ${String(thrown)}`);
    });
  }

  private async wrapUp(exitStatus: number): Promise<void> {
    const { session, sessionStart = '', message } = this.record;
    // Before the grace: a prologue that ends now must not start the job any more.
    rmSync(this.files.token, { force: true });
    this.settleStart();
    const ran = this.record.jobBegun !== undefined || exitStatus === 0 || exitStatus === -3;
    const used = usedAtEnd(this.sampled, ran ? this.seconds() : 0);
    if (session !== undefined) {
      if (this.terminated) await sleep(GRACE_MS);
      this.signalAll(session, sessionStart, 'SIGKILL');
      this.mom.log(
        '128',
        'Job',
        this.id,
        `scan_for_terminated: job ${this.id} task 1 terminated, sid=${session}`,
      );
      this.mom.log('08', 'Job', this.id, 'job was terminated');
    }
    this.mom.log('128', 'Svr', 'preobit_preparation', 'top');
    this.save({ phase: 'epilogue', exitStatus, used });
    this.writeJobFile();
    // A job that never began is dropped by the other nodes without a word: TORQUE's ABORT.
    if (session !== undefined)
      await Promise.all(this.sisters().map((sister) => this.runSister(sister, { used, exitStatus })));
    await this.runEpilogue();
    if (!NEVER_STARTED.has(exitStatus)) await this.deliver();
    this.save({ phase: 'obit' });
    this.mom.log('128', 'Job', this.id, 'obit sent to server');
    this.mom.tell({
      kind: 'obit',
      id: this.id,
      attempt: message.attempt,
      exitStatus,
      session: session ?? 0,
      used,
    });
  }

  private async runEpilogue(): Promise<void> {
    const { message, session = 0, used = [], exitStatus = 0 } = this.record;
    const spec = epilogueSpec(message, this.files, this.place, { session, used, exitStatus });
    await launch(this.mom.paths, 'epilogue', this.id, spec, () => undefined);
  }

  private async deliver(): Promise<void> {
    const spec = deliverSpec(this.record.message, this.files, this.place);
    const missing = new Set(
      spec.filter(([name]) => name === 'copy[]').map(([, value]) => value.split('\t')[0] ?? ''),
    );
    await launch(this.mom.paths, 'deliver', this.id, spec, ([kind, file = '']) => {
      if (kind !== 'copied') return;
      missing.delete(file);
      rmSync(file, { force: true });
    });
    for (const file of missing) {
      this.mom.log(
        '01',
        'Job',
        this.id,
        `Unable to copy file ${file}, left in ${this.mom.paths.undelivered}`,
      );
      renameSync(file, join(this.mom.paths.undelivered, basename(file)));
    }
  }

  /** Once the server has the report. */
  forget(keepOutput: boolean): void {
    const { script, job, record, nodeFile, token, out, err } = this.files;
    for (const path of [script, job, record, nodeFile, token]) rmSync(path, { force: true });
    const spooled = [out, err].filter((path) => dirname(path) === this.mom.paths.spool);
    if (!keepOutput) for (const path of spooled) rmSync(path, { force: true });
    this.mom.log('128', 'Job', this.id, 'removed job script');
  }

  /** After a restart of the mom: what its predecessor left behind. `abort` is `-q` and `-r`. */
  recover(abort: boolean): void {
    const { phase, session = 0, sessionStart = '', exitStatus = 0, used = [], message } = this.record;
    if (phase === 'obit') {
      this.finishing = true;
      this.mom.tell({ kind: 'obit', id: this.id, attempt: message.attempt, exitStatus, session, used });
    } else if (phase === 'epilogue') this.finish(exitStatus);
    else if (phase === 'prologue') {
      this.mom.log('01', 'Job', this.id, 'start data lost, server will retry');
      this.finish(-3);
    } else if (abort && isAlive(session, sessionStart)) {
      this.signalAll(session, sessionStart, 'SIGKILL');
      this.finish(-4);
    } else this.watch();
  }
}
