// The job starter's work: the job script, in the guest, with what the mom would have given it on the host.
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { basename } from 'node:path';
import type { Writable } from 'node:stream';
import { parseGuestRequest } from '../../guest/grant.ts';
import { askBySsh } from '../../guest/ready/channels.ts';
import { type WaitOptions, waitForReadyFile, waitForReport } from '../../guest/ready/ready.ts';
import type { ConnectionOptions } from '../../guest/session/connection.ts';
import { JobSession } from '../../guest/session/job-session.ts';
import type { Limit } from '../../guest/session/limits.ts';
import type { JobSignal } from '../../guest/session/remote-programs.ts';
import { type Outcome, readSession, type Session, sessionPaths } from '../../guest/session/session-file.ts';
import { stagingOf } from '../../guest/session/staging.ts';
import { openShareGuard } from '../../guest/share/guard.ts';
import { processRuns } from '../../hypervisor/guest-process.ts';
import { errnoOf, FAULT_OUTCOMES, formatError, toVmbatchError, VmbatchError } from '../../util/errors.ts';
import { spawnRun } from '../../util/processes/spawn-run.ts';
import { jobEnvironment } from './job-surroundings.ts';

export interface RunJobOptions {
  state: string;
  jobId: string;
  /** The shell that the mom would have started. */
  shell: string;
  /** The one line on our stdin: path of the script, then `-F` arguments. */
  line: string;
  /** Byte strings, a character a byte. */
  environment: Readonly<Record<string, string>>;
  stdout: Writable;
  stderr: Writable;
  /** Calls back for SIGTERM and SIGINT of ours. */
  onSignal: (listener: (name: JobSignal) => void) => void;
  /** The mom's, which `qsub -W umask=` decides. */
  umask: number;
  /** The mom's, some of which are the job's own requests. */
  limits: readonly Limit[];
}

/** Runs the job to its end and leaves its outcome for the epilogue. Never throws: what goes wrong is told on
 * the job's stderr and by the exit code that goes with the fault.
 * @returns the exit code of the job as a shell sees it: 128 + N for signal N */
export async function runJob(options: RunJobOptions): Promise<number> {
  const begun = performance.now();
  const paths = sessionPaths(options.state, options.jobId);
  const signals: JobSignal[] = [];
  let session: JobSession | undefined;
  const over = new AbortController();
  options.onSignal((name) => {
    signals.push(name);
    // Before there is a job to hand it to: what ends jobs ends the wait for its guest.
    if (session === undefined && (name === 'TERM' || name === 'INT')) over.abort(deleted(options.jobId));
    void session?.signal(name);
  });
  let notes: string | undefined;
  const leave = (outcome: Omit<Outcome, 'version'>) =>
    leaveOutcome(paths.outcome, { ...outcome, ...(notes === undefined ? {} : { notes }) });
  // Nothing is known yet but that somebody came to run the job. The shim finds it unchanged if this process
  // dies.
  leave({});
  try {
    const known = readSession(paths, options.jobId);
    const { script, name, rest } = readScript(options);
    const { guest } = known;
    const staged = parseGuestRequest(script.toString('latin1'), name).stage?.value;
    // Where /proc shows users only their own processes, the guest's tells nothing.
    const seen = guest !== undefined && processRuns(guest);
    const found = await awaitGuest(known, () => !seen || processRuns(guest), over.signal);
    const { host, bootId } = found;
    notes = found.notes;
    session = new JobSession({
      connection: { ...connectionOf(known, 20_000), host },
      launch: {
        // The user's shell reads it as part of a command line: an array job's brackets mean something there.
        directory: `/var/tmp/vmbatch-${options.jobId.replace(/[^A-Za-z0-9.-]/g, '-')}`,
        scriptName: name,
        script,
        scriptArguments: rest,
        environment: { ...known.environment, ...jobEnvironment(options.environment) },
        nodeFile:
          known.nodeFile === undefined
            ? readNodeFile(options.environment['PBS_NODEFILE'])
            : Buffer.from(known.nodeFile),
        umask: options.umask,
        limits: options.limits,
        shell: options.shell,
        login: options.shell === known.loginShell,
      },
      ...(staged === undefined ? {} : { staging: stagingOf(staged, spawnRun) }),
      stdout: options.stdout,
      stderr: options.stderr,
      connectMs: known.connectMs,
      reconnectMs: known.reconnectMs,
      guestLives: () => !seen || processRuns(guest),
      bootId,
      afterJobSeconds: known.afterJobSeconds,
    });
    for (const signal of signals) void session.signal(signal);
    const end = await Promise.race([session.run(), outputFailure(options)]);
    if (end.remark !== undefined) options.stderr.write(`vmbatch: ${end.remark}\n`);
    const all = (performance.now() - begun) / 1000;
    leave({
      exitCode: end.exitCode,
      reconnects: end.reconnects,
      seconds: { connect: round(end.connectSeconds), job: round(all - end.connectSeconds) },
    });
    return end.exitCode;
  } catch (thrown) {
    session?.abandon();
    const error = toVmbatchError(thrown, 'node');
    options.stderr.write(`${formatError(error)}\n`);
    leave({ fault: error.fault, code: error.code, message: error.message.slice(0, 1000) });
    return FAULT_OUTCOMES[error.fault].starterExit;
  }
}

function connectionOf(session: Session, timeoutMs: number): ConnectionOptions {
  const { host, port, user, login, privateKey, hostKey, heartbeatMs } = session;
  return { host, port, user: login ?? user, otherUser: user, privateKey, hostKey, heartbeatMs, timeoutMs };
}

function deleted(jobId: string): VmbatchError {
  const message = `job ${jobId} was deleted while its guest was being started`;
  return new VmbatchError({ fault: 'job', code: 'job-deleted', message, jobId });
}

/** In the prologue's mode `started`, waits for the guest. */
async function awaitGuest(
  known: Session,
  guestLives: () => boolean,
  signal: AbortSignal,
): Promise<{ host: string; bootId: string | undefined; notes?: string | undefined }> {
  const { awaited, jobId, hostKey, host } = known;
  if (awaited === undefined) return { host, bootId: known.bootId };
  const expected = { jobId, nonce: awaited.nonce, hostKey };
  const options: WaitOptions = {
    deadlineMs: Math.max(1_000, awaited.until - Date.now()),
    signal,
    givenUp: () => (guestLives() ? undefined : 'the guest died while it started'),
  };
  if (awaited.readyFile === undefined) {
    const connection = connectionOf(known, 5_000);
    const { bootId, notes } = await waitForReport(
      () => askBySsh(async () => connection, expected),
      { what: 'did not answer over SSH that it is ready', jobId },
      { ...options, intervalMs: 200 },
    );
    return { host, bootId, notes };
  }
  const guard = openShareGuard(awaited.share.name, awaited.share.lookMs);
  try {
    const file = { ...expected, path: awaited.readyFile, ownerUid: process.getuid?.() ?? 0 };
    const report = await waitForReadyFile(file, guard, options);
    const { address, bootId, notes } = report;
    return { host: awaited.addressUnknown ? address : host, bootId, notes };
  } finally {
    guard.close();
  }
}

function readScript(options: RunJobOptions): { script: Buffer; name: string; rest: string } {
  const line = options.line.replace(/\n.*$/s, '');
  const end = line.indexOf(' ');
  const path = end === -1 ? line : line.slice(0, end);
  const name = basename(path);
  const problem = !/^[A-Za-z0-9._[\]-]+$/.test(name)
    ? 'the mom named no job script'
    : !/^\/[^\0\n]*$/.test(options.shell)
      ? `the mom named no shell: ${JSON.stringify(options.shell)}`
      : undefined;
  try {
    if (problem === undefined)
      return { script: readFileSync(path), name, rest: end === -1 ? '' : line.slice(end) };
  } catch (error) {
    throw new VmbatchError({
      fault: 'node',
      code: 'script-absent',
      message: `the job script ${path} cannot be read`,
      cause: error,
    });
  }
  throw new VmbatchError({
    fault: 'node',
    code: 'starter-input',
    message: problem ?? '',
    hint: 'the job starter is for a mom to start, with the path of the job script on its stdin',
  });
}

/** Never resolves; rejects when the job's output cannot be written. */
function outputFailure({ stdout, stderr }: RunJobOptions): Promise<never> {
  return new Promise((_, reject) => {
    for (const sink of [stdout, stderr]) sink.once('error', (error) => reject(outputFailed(error)));
  });
}

/** What the job has used up itself is not the node's fault. */
function outputFailed(error: Error): VmbatchError {
  const own = { EFBIG: "the job's limit on the size of files (-l file)", EDQUOT: "the user's quota there" }[
    errnoOf(error) ?? ''
  ];
  return new VmbatchError({
    fault: own === undefined ? 'node' : 'job',
    code: 'output-failed',
    message: `the output of the job cannot be written: ${own === undefined ? error.message : `it is beyond ${own}`}`,
    hint:
      own === undefined
        ? "is the disk of the mom's spool directory full?"
        : 'have the job write less to stdout and stderr, or ask for more',
    cause: error,
  });
}

function readNodeFile(path: string | undefined): Buffer | undefined {
  try {
    return path === undefined ? undefined : readFileSync(path);
  } catch {
    return undefined; // as without TORQUE: a job that needs it says so itself
  }
}

/** The file is the user's own and was made for this; without it only the history lacks something. */
function leaveOutcome(path: string, outcome: Omit<Outcome, 'version'>): void {
  let file: number | undefined;
  try {
    file = openSync(path, 'r+');
    // In this order: on a full disk the file still has the room that it had.
    ftruncateSync(file, writeSync(file, JSON.stringify({ version: 1, ...outcome })));
  } catch {
    // no session was made, or it is gone already
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
