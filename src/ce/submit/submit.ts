// Submit: a grami file becomes a batch job, exactly one however often it is tried, and its id goes back into
// the grami file.
import { buildBatchScript } from '../../arc/batch-script/batch-script.ts';
import { resolveRuntimes } from '../../arc/batch-script/runtime-environments.ts';
import { runStageZero } from '../../arc/batch-script/stage-zero.ts';
import { type ArcConfiguration, initialVariables } from '../../arc/configuration/configuration.ts';
import { appendJobId, type Grami, loadJobId } from '../../arc/grami.ts';
import { decodeBytes, showBytes } from '../../arc/text.ts';
import type { Torque } from '../../batch/torque/commands.ts';
import { TorqueError } from '../../batch/torque/errors.ts';
import { qdel } from '../../batch/torque/qdel.ts';
import { qsub, submissionVariable, UnclearSubmission } from '../../batch/torque/qsub.ts';
import { monotonicMs, pause } from '../../util/clock.ts';
import { VmbatchError } from '../../util/errors.ts';
import { noteBenchmark } from './benchmark.ts';
import { logDuration } from './durations.ts';
import { findSubmitted, settleProcesses, submittedTwice } from './earlier-attempt.ts';
import { withHeldSignals } from './held-signals.ts';
import { createMark, readMark, removeMarks, type SubmissionMark } from './mark.ts';
import { requireSession } from './session.ts';

/** What a submission is made of. */
export interface SubmitTask {
  grami: Grami;
  /** All assignments of the grami file. */
  values: ReadonlyMap<string, string>;
  configuration: ArcConfiguration;
  torque: Torque;
  /** Gets what belongs into the job's log, as it comes. */
  log: (chunk: Uint8Array | string) => void;
  /** Time, so that tests need not wait. */
  clock?: SubmitClock;
}

/** Milliseconds. */
interface SubmitClock {
  /** From any fixed moment; never goes back. */
  now: () => number;
  pause: (milliseconds: number) => Promise<void>;
  /** 0 to 1: makes a hundred waiting submissions ask at different moments. */
  random: () => number;
}

const SYSTEM_CLOCK: SubmitClock = { now: monotonicMs, pause, random: Math.random };

/** From the first failure that may pass to the next attempt; each pause is twice the one before, up to the
 * longest. */
const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 60_000;
/** How often a submission that waits says so. */
const SAY_SO_MS = 5 * 60_000;

/** What the job's log gets of the batch script. */
const SHOWN_SCRIPT_BYTES = 256 * 1024;

/** What became of a submission. */
export interface Submission {
  jobId: string;
  /** `before`: the grami file had a job id; `adopted`: an earlier attempt had got as far as TORQUE. */
  how: 'submitted' | 'adopted' | 'before';
}

/** Submits the job as the user we run as, in its session directory: runtime environments and their stage 0,
 * script, qsub. What may pass (queue full, server away) is waited for, up to `submitPatienceMs` of the
 * configuration.
 *
 * Before qsub a mark with a token is left in the session directory, and the batch job carries the token. A
 * submission that finds a mark ends what still runs of the earlier one and looks in TORQUE for the token
 * before it submits again.
 * @throws VmbatchError; then there is no batch job, except where the message says so */
export async function submit(given: SubmitTask): Promise<Submission> {
  const { grami } = given;
  const directory = decodeBytes(grami.sessionDirectory);
  if (grami.jobId !== undefined) {
    removeMarks(directory);
    return { jobId: grami.jobId, how: 'before' };
  }
  requireSession(grami);
  const started = (given.clock ?? SYSTEM_CLOCK).now();
  const task: Waiting = {
    clock: SYSTEM_CLOCK,
    ...given,
    started,
    said: Number.NEGATIVE_INFINITY,
    unsure: false,
  };
  try {
    const earlier = readMark(directory);
    task.unsure = earlier !== undefined;
    const adopted = earlier === undefined ? undefined : await adopt(task, earlier);
    if (adopted !== undefined) return adopted;
    const prepared = await prepare(task);
    return await submitPrepared(task, prepared, earlier);
  } catch (error) {
    // It is what tells of a batch job that may be there.
    const decided = error instanceof VmbatchError ? !UNDECIDED.has(error.code) : !task.unsure;
    if (decided) removeMarks(directory);
    throw error;
  }
}

/** A submission that may have to wait; its patience is one, however often and for whatever it waits. */
interface Waiting extends SubmitTask {
  clock: SubmitClock;
  /** As the clock gives it. */
  started: number;
  /** When it said so last. */
  said: number;
  /** There may be a batch job: an earlier attempt's, or qsub was started. */
  unsure: boolean;
}

const UNDECIDED = new Set(['submission-unclear', 'batch-job-left', 'submitted-twice']);

interface Prepared {
  script: Uint8Array;
  directory: string;
  /** For error messages. */
  subject: string;
}

/** The script, as runtime environments, configuration and grami make it. */
async function prepare({ grami, values, configuration, log }: SubmitTask): Promise<Prepared> {
  const started = monotonicMs();
  noteBenchmark(grami, configuration, log);
  const stage = await runStageZero({
    grami,
    values,
    runtimes: resolveRuntimes(grami.runtimes, grami.controlDirectory),
    variables: initialVariables(configuration),
    config: configuration.configVariables(grami.queue),
    configurationFile: configuration.file,
    log,
  });
  for (const { name, said } of stage.complaints)
    log(
      `vmbatch: stage 0${name === '' ? '' : ` of the runtime environment ${showBytes(name)}`} went on after it had said: ${said}\n`,
    );
  // Stage 0 may have asked for more.
  const runtimes = resolveRuntimes(stage.grami.runtimes, grami.controlDirectory);
  const script = Buffer.from(
    buildBatchScript(stage.grami, configuration, runtimes, stage.variables, stage.complaints),
    'latin1',
  );
  const queue = stage.grami.queue ?? configuration.defaultQueue;
  logDuration(configuration.perflogDirectory, 'JobScriptCreation', started);
  const line = '-'.repeat(67);
  log(`vmbatch: the batch script follows:\n${line}\n`);
  log(script.subarray(0, SHOWN_SCRIPT_BYTES));
  log(
    `${script.length > SHOWN_SCRIPT_BYTES ? `\n(${script.length - SHOWN_SCRIPT_BYTES} more bytes)\n` : ''}${line}\n`,
  );
  return {
    script,
    directory: decodeBytes(stage.grami.sessionDirectory),
    subject: `grid job ${grami.gridId}${queue === undefined ? '' : ` in queue ${decodeBytes(queue)}`}`,
  };
}

async function submitPrepared(
  task: Waiting,
  prepared: Prepared,
  earlier: SubmissionMark | undefined,
): Promise<Submission> {
  const directory = decodeBytes(task.grami.sessionDirectory);
  if (earlier !== undefined) return await submitPatiently(task, prepared, earlier.token);
  const made = createMark(directory);
  if (made !== undefined)
    return submittedMeanwhile(task) ?? (await submitPatiently(task, prepared, made.token));
  // Another submit of this job came between; or something that is no mark is in its place, and is taken away.
  task.unsure = true;
  const mark = readMark(directory) ?? createMark(directory);
  if (mark === undefined) throw submittedTwice(task.grami.file);
  return (await adopt(task, mark)) ?? (await submitPatiently(task, prepared, mark.token));
}

/** The batch job of a submit that ran beside this one, and that took its mark away before this one looked for
 * it. */
function submittedMeanwhile({ grami }: Waiting): Submission | undefined {
  const jobId = loadJobId(grami.file);
  if (jobId === undefined) return undefined;
  removeMarks(decodeBytes(grami.sessionDirectory));
  return { jobId, how: 'before' };
}

/** The batch job of an earlier attempt, its id written into the grami file. */
async function adopt(task: Waiting, mark: SubmissionMark): Promise<Submission | undefined> {
  const { grami, torque, log } = task;
  log('vmbatch: an earlier attempt at this submission did not come to its end; looking for its batch job\n');
  await settleProcesses(grami.file, mark.token);
  const before = submittedMeanwhile(task);
  if (before !== undefined) return before;
  // The batch job may have written its id while its qsub was waited for.
  const written = readMark(decodeBytes(grami.sessionDirectory))?.jobId;
  const jobId = await patiently(task, mark.token, 'undecided', () =>
    findSubmitted(torque, mark.token, written),
  );
  task.unsure = false;
  if (jobId === undefined) return undefined;
  await withHeldSignals(async () => record(task, jobId));
  return { jobId, how: 'adopted' };
}

/** qsub until it succeeds or fails for good. */
async function submitPatiently(task: Waiting, prepared: Prepared, token: string): Promise<Submission> {
  const { torque, configuration } = task;
  let unclear: UnclearSubmission | undefined;
  return await patiently(task, token, 'none', async () => {
    if (unclear !== undefined) {
      const failure = unclear;
      const jobId = await findSubmitted(torque, token);
      unclear = undefined;
      if (jobId !== undefined) {
        await withHeldSignals(async () => record(task, jobId));
        return { jobId, how: 'submitted' };
      }
      // Now it is clear: there is no batch job.
      const { fault, code, message, hint, passing } = failure;
      throw new TorqueError({ fault, code, message, hint, passing });
    }
    const started = monotonicMs();
    try {
      return await withHeldSignals(async () => {
        task.unsure = true;
        const jobId = await qsub(torque, prepared.script, { ...prepared, token });
        await recordOrTakeBack(task, jobId);
        return { jobId, how: 'submitted' } as const;
      });
    } catch (error) {
      if (error instanceof UnclearSubmission) unclear = error;
      throw error;
    } finally {
      logDuration(configuration.perflogDirectory, 'JobSubmission', started);
    }
  });
}

/** Repeats what fails with something that may pass. After an unclear submission the next call comes at once,
 * to look.
 * @param batchJob what is known before the first call: that there is none, or nothing */
async function patiently<Result>(
  task: Waiting,
  token: string,
  batchJob: 'none' | 'undecided',
  work: () => Promise<Result>,
): Promise<Result> {
  const { configuration, clock, log } = task;
  let undecided = batchJob === 'undecided';
  for (let next = FIRST_PAUSE_MS; ; next = Math.min(2 * next, LONGEST_PAUSE_MS)) {
    try {
      return await work();
    } catch (error) {
      if (error instanceof UnclearSubmission) {
        undecided = true;
        log(`vmbatch: ${error.message}; looking whether the batch job is there all the same\n`);
        continue;
      }
      if (!(error instanceof VmbatchError)) throw error;
      // What qsub says is of a batch job that is not there; when qstat fails, the question stays open.
      if (error.code.startsWith('qsub-')) undecided = false;
      if (!undecided && !(error instanceof TorqueError && error.passing)) throw error;
      const wait = next * (0.75 + 0.5 * clock.random());
      const waited = clock.now() - task.started;
      if (waited + wait >= configuration.submitPatienceMs)
        throw gaveUp(error, token, Math.round(waited / 1000), undecided);
      if (clock.now() - task.said >= SAY_SO_MS) {
        task.said = clock.now();
        log(`vmbatch: ${error.message}; waiting\n`);
      }
      await clock.pause(wait);
    }
  }
}

function gaveUp(error: VmbatchError, token: string, seconds: number, undecided: boolean): VmbatchError {
  const { fault, code, message, hint } = error;
  if (!undecided)
    return new VmbatchError({
      fault,
      code,
      message: `${message}; waited ${seconds} s`,
      hint: hint ?? 'submit the job again later',
    });
  return new VmbatchError({
    fault: 'site',
    code: 'submission-unclear',
    message: `the batch server did not say within ${seconds} s whether it has the job: ${message}`,
    hint: `look with "qstat -f" for a job with ${submissionVariable(token)}, and delete it`,
    cause: error,
  });
}

function record({ grami }: SubmitTask, jobId: string): void {
  appendJobId(grami.file, jobId);
  removeMarks(decodeBytes(grami.sessionDirectory));
}

/** A-REX would never ask for a batch job whose id it did not get, so it must not stay. */
async function recordOrTakeBack(task: SubmitTask, jobId: string): Promise<void> {
  try {
    record(task, jobId);
  } catch (error) {
    try {
      await qdel(task.torque, jobId);
    } catch (qdelError) {
      throw new VmbatchError({
        fault: 'site',
        code: 'batch-job-left',
        message: `batch job ${jobId} was submitted, could not be reported to A-REX and not be deleted either`,
        hint: `qdel ${jobId}`,
        cause: new Error(error instanceof Error ? error.message : String(error), { cause: qdelError }),
      });
    }
    throw error;
  }
}
