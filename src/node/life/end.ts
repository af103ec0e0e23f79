// The epilogue: whatever there is of a job's guest, in whatever state, is gone when it is through. It may run
// while the prologue still runs, twice, or when nothing was made.
import { closeSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EpilogueArguments } from '../../batch/torque/mom/hook-arguments.ts';
import { type Outcome, readOutcome, sessionPaths } from '../../guest/session/session-file.ts';
import { findProcess, processRuns } from '../../hypervisor/guest-process.ts';
import type { GuestProcess, Hypervisor } from '../../hypervisor/port.ts';
import { errnoOf } from '../../util/errors.ts';
import { type Log, printable } from '../../util/log.ts';
import { mustClaimJob } from '../claim.ts';
import { keepConsole } from '../console/saved.ts';
import { lastWords } from '../console/tail.ts';
import { appendHistory } from '../history.ts';
import { mustBeOwn } from '../owner/state-owner.ts';
import {
  type JobPaths,
  type JobRecord,
  jobPaths,
  readRecord,
  removeJobDirectory,
  writeRecord,
} from '../record.ts';
import { hasFailed, type KeeperProgram, startKeeper } from './kept.ts';
import { stoppedBecause } from './steps/guest-trouble.ts';
import { undo } from './undo.ts';
import { unusedSession } from './unused-session.ts';

export interface EpilogueOptions {
  state: string;
  hook: EpilogueArguments;
  /** For the connection that the record names: the node file may be another by now, or broken. */
  openHypervisor: (uri: string) => Hypervisor;
  log: Log;
  /** What a keeper of a failed job's guest is to run; undefined: guests are never kept. */
  keeper?: KeeperProgram | undefined;
  /** Told how the job ended, before anything of it is removed. */
  onEnd?: (record: JobRecord, outcome: Outcome | undefined) => Promise<void>;
  /** The prologue ran in this very process: there is none to stop. */
  isOwn?: boolean;
  /** What is wrong with how the mom starts jobs, asked for when a job has not used its guest. */
  lookAtStarter?: () => Promise<string | undefined>;
  /** Tells the job's user something: TORQUE delivers an epilogue's output with the job's. */
  tell?: (text: string) => void;
}

/** What a prologue gets to notice that its job is over and to undo what it is about. A start of a domain in
 * libvirt cannot be stopped half-way: it must come to its end before it can be undone. */
const PROLOGUE_GRACE_MS = 8_000;
/** What a reaper gets that is at the same job. */
const CLAIM_MS = 30_000;

/** Removes all that the record of the job speaks of.
 * @returns whether everything is gone; what is not stays in the record.
 * @throws VmbatchError `node`: `state-of-another-node`, `job-claimed` */
export async function endGuest(options: EpilogueOptions): Promise<boolean> {
  const { state, hook, log } = options;
  const begun = performance.now();
  mustBeOwn(state);
  const paths = jobPaths(state, hook.jobId);
  // Without a record there may be a prologue that has not come to make one.
  const marked = markEnded(paths);
  const prologue = options.isOwn
    ? undefined
    : ((marked ? readRecord(paths)?.prologue : undefined) ?? findPrologue(hook.jobId));
  if (prologue !== undefined) await stopPrologue(prologue, log);
  const release = await mustClaimJob(state, hook.jobId, CLAIM_MS);
  try {
    return await endClaimed(options, paths, begun);
  } finally {
    release();
  }
}

async function endClaimed(options: EpilogueOptions, paths: JobPaths, begun: number): Promise<boolean> {
  const { state, hook, log } = options;
  // Read again: the prologue may have gone on, or have undone everything itself.
  const record = readRecord(paths);
  if (record === undefined) {
    removeJobDirectory(paths);
    return true;
  }

  const outcome = await outcomeOf(options, record);
  await options.onEnd?.(record, outcome);
  const failed = hasFailed(hook.exitStatus, outcome?.fault);
  if (failed) {
    keepConsole(state, hook.jobId, paths.console, record.debug.consoles);
    // The starter is the job's user and may not read the console.
    const why = outcome?.code === 'guest-lost' ? lastWords(paths.console) : undefined;
    if (why !== undefined) {
      options.tell?.(`vmbatch: ${why} under its job`);
      log.write('warn', `${why} under its job`);
    }
    // A guest whose disk is full is stopped: the starter hears nothing of it, and may not ask.
    const stopped = /^guest-(hangs|lost|unreachable)$/.test(outcome?.code ?? '')
      ? await stoppedBecause(options.openHypervisor(record.uri), record.domain, state)
      : undefined;
    if (stopped !== undefined) {
      options.tell?.(`vmbatch: ${stopped.message}`);
      log.write('error', stopped.message, { code: stopped.code, hint: stopped.hint });
    }
    if (await keepGuest(options, paths, record, outcome)) return true;
  }
  const hypervisor = options.openHypervisor(record.uri);
  const failures = await undo({ state, paths, record, hypervisor });
  record.seconds['epilogue'] = Math.round(performance.now() - begun) / 1000;
  appendHistory(state, record, { exitStatus: hook.exitStatus, outcome });
  for (const failure of failures)
    log.write('error', `left over: ${failure.step}: ${failure.error.message}`, { code: failure.error.code });
  // In mode `started` only the starter has heard it; of what it hands on, all is the user's own text.
  if (outcome?.notes !== undefined && record.guest === undefined)
    log.write('warn', `the guest was ready, but said: ${printable(outcome.notes)}`);
  if (outcome?.message !== undefined) {
    const { fault, code, message } = outcome;
    log.write(code === 'starter-unused' ? 'error' : 'warn', message, { fault, code });
  }
  const ended = { exitStatus: hook.exitStatus, exitCode: outcome?.exitCode, ...record.seconds };
  if (failures.length === 0) log.write('info', 'the guest is gone', ended);
  return failures.length === 0;
}

/** What the starter left, or what it means that it left nothing. */
async function outcomeOf(
  { state, hook, tell, lookAtStarter }: EpilogueOptions,
  record: JobRecord,
): Promise<Outcome | undefined> {
  const left = readOutcome(sessionPaths(state, hook.jobId), record.uid);
  if (left !== undefined || unusedSession(record, hook, left, '') === undefined) return left;
  const unused = unusedSession(record, hook, left, await lookAtStarter?.());
  tell?.(`vmbatch: this job did not run in its guest; the log of vmbatch on this node says why`);
  return unused;
}

/** Keeps the guest of a failed job for a while instead of removing it, if that is wished and there is one.
 * @returns whether it is kept */
async function keepGuest(
  { state, hook, log, keeper }: EpilogueOptions,
  paths: JobPaths,
  record: JobRecord,
  outcome: Outcome | undefined,
): Promise<boolean> {
  const { keepMs } = record.debug;
  if (keepMs === 0 || keeper === undefined || record.steps.session !== 'held') return false;
  const until = Date.now() + keepMs;
  record.keptUntil = until;
  writeRecord(paths, record);
  await startKeeper(state, hook.jobId, Math.ceil(keepMs / 1000), keeper);
  appendHistory(state, record, { exitStatus: hook.exitStatus, outcome });
  const [id, end] = [hook.jobId, new Date(until).toISOString()];
  log.write(
    'warn',
    `the guest of this failed job is kept until ${end}: vmbatch ssh ${id}, vmbatch release ${id}`,
  );
  return true;
}

/** Tells a prologue that may be running that the job is over. False if there is nothing of the job here. */
function markEnded(paths: JobPaths): boolean {
  try {
    closeSync(openSync(paths.ended, 'w', 0o600));
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

/** The prologue of a job by its command line: the shim (`sh …/prologue JOBID …`) or what it becomes
 * (`node vmbatch prologue [--option VALUE] … JOBID …`). Root's only: a job may name itself and its processes
 * as it likes. */
function findPrologue(jobId: string): GuestProcess | undefined {
  return findProcess((words, uid) => {
    const shim = words[1]?.split('/').at(-1) === 'prologue' && words[2] === jobId;
    let first = 3;
    while (words[first]?.startsWith('--')) first += 2;
    return uid === 0 && (shim || (words[2] === 'prologue' && words[first] === jobId));
  });
}

async function stopPrologue(prologue: GuestProcess, log: Log): Promise<void> {
  if (!processRuns(prologue)) return;
  log.write('info', 'the job ended while its guest was being started');
  process.kill(prologue.pid, 'SIGTERM');
  const deadline = performance.now() + PROLOGUE_GRACE_MS;
  while (processRuns(prologue) && performance.now() < deadline) await sleep(20);
  if (!processRuns(prologue)) return;
  log.write('warn', 'the prologue did not end in time and is killed');
  killSession(prologue.pid);
  while (processRuns(prologue) && performance.now() < deadline + 2_000) await sleep(20);
}

/** The mom starts a hook in a session of its own, so its programs go with it. */
function killSession(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    process.kill(pid, 'SIGKILL'); // it leads no process group
  }
}
