// The job starter's work: the job script, in the guest, with what the mom would have given it on the host.
import { readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { basename } from 'node:path';
import type { Writable } from 'node:stream';
import type { ConnectionOptions } from '../guest/connection.ts';
import { JobSession } from '../guest/job-session.ts';
import { type WaitOptions, waitForReadyFile, waitForReport } from '../guest/ready.ts';
import { askBySsh } from '../guest/ready-channels.ts';
import type { JobSignal } from '../guest/remote-programs.ts';
import { parseGuestRequest } from '../guest/request.ts';
import { type Outcome, readSession, type Session, sessionPaths } from '../guest/session-file.ts';
import { openShareGuard } from '../guest/share/guard.ts';
import { stagingOf } from '../guest/staging.ts';
import { processRuns } from '../hypervisor/guest-process.ts';
import { FAULT_OUTCOMES, formatError, toVmbatchError, VmbatchError } from '../util/errors.ts';
import { spawnRun } from '../util/spawn-run.ts';

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
}

export interface JobResult {
  exitCode: number;
  /** The signal of which we should die as the job did, for the mom to see it as it would without us. */
  diedOf: NodeJS.Signals | undefined;
}

/** Runs the job to its end and leaves its outcome for the epilogue. Never throws: what goes wrong is told on
 * the job's stderr and by the exit code that goes with the fault. */
export async function runJob(options: RunJobOptions): Promise<JobResult> {
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
  const leave = (outcome: Omit<Outcome, 'version'>) => leaveOutcome(paths.outcome, outcome);
  try {
    const known = readSession(paths, options.jobId);
    const { script, name, rest } = readScript(options);
    const { guest } = known;
    const staged = parseGuestRequest(script.toString('latin1'), name).stage?.value;
    // Where /proc shows users only their own processes, the guest's tells nothing.
    const seen = guest !== undefined && processRuns(guest);
    const { host, bootId } = await awaitGuest(known, () => !seen || processRuns(guest), over.signal);
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
    const died = signals.find((signal) => 128 + constants.signals[`SIG${signal}`] === end.exitCode);
    return { exitCode: end.exitCode, diedOf: died === undefined ? undefined : `SIG${died}` };
  } catch (thrown) {
    session?.abandon();
    const error = toVmbatchError(thrown, 'node');
    options.stderr.write(`${formatError(error)}\n`);
    leave({ fault: error.fault, code: error.code, message: error.message.slice(0, 1000) });
    return { exitCode: FAULT_OUTCOMES[error.fault].starterExit, diedOf: undefined };
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
): Promise<{ host: string; bootId: string | undefined }> {
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
    const { bootId } = await waitForReport(
      () => askBySsh(async () => connection, expected),
      { what: 'did not answer over SSH that it is ready', jobId },
      { ...options, intervalMs: 200 },
    );
    return { host, bootId };
  }
  const guard = openShareGuard(awaited.share.name, awaited.share.lookMs);
  try {
    const file = { ...expected, path: awaited.readyFile, ownerUid: process.getuid?.() ?? 0 };
    const report = await waitForReadyFile(file, guard, options);
    return { host: awaited.addressUnknown ? report.address : host, bootId: report.bootId };
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

/** Names that speak of this process or of the node, not of the job in its guest. */
const NOT_THE_JOBS = new Set([
  ...['_', 'OLDPWD', 'PWD', 'SHLVL', 'HOSTNAME'],
  ...['PBS_NODEFILE', 'PBS_GPUFILE', 'PBS_MICFILE'],
]);
/** The shim keeps away from our own Node what the job set for its. */
const KEPT_PREFIX = 'VMBATCH_KEPT_';

function jobEnvironment(environment: Readonly<Record<string, string>>): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    if (NOT_THE_JOBS.has(name)) continue;
    result[name.startsWith(KEPT_PREFIX) ? name.slice(KEPT_PREFIX.length) : name] = value;
  }
  return result;
}

/** The environment that we were started with, byte for byte: Node's own view of it replaces what is not UTF-8. */
export function readEnvironment(): Record<string, string> {
  const entries = readFileSync('/proc/self/environ', 'latin1').split('\0').filter(Boolean);
  return Object.fromEntries(
    entries.map((entry) => {
      const at = entry.indexOf('=');
      return [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );
}

/** Never resolves; rejects when the job's output cannot be written. */
function outputFailure({ stdout, stderr }: RunJobOptions): Promise<never> {
  return new Promise((_, reject) => {
    for (const sink of [stdout, stderr])
      sink.once('error', (error) =>
        reject(
          new VmbatchError({
            fault: 'node',
            code: 'output-failed',
            message: `the output of the job cannot be written: ${error.message}`,
            hint: "is the disk of the mom's spool directory full?",
            cause: error,
          }),
        ),
      );
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
  try {
    writeFileSync(path, JSON.stringify({ version: 1, ...outcome }), { flag: 'r+' });
  } catch {
    // no session was made, or it is gone already
  }
}

function round(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
