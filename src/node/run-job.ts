// The job starter's work: the job script, in the guest, with what the mom would have given it on the host.
import { readFileSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { Writable } from 'node:stream';
import { JobSession } from '../guest/job-session.ts';
import { type Outcome, readSession, sessionPaths } from '../guest/session-file.ts';
import { processRuns } from '../hypervisor/guest-process.ts';
import { FAULT_OUTCOMES, formatError, toVmbatchError, VmbatchError } from '../util/errors.ts';

export interface RunJobOptions {
  state: string;
  jobId: string;
  /** The shell that the mom would have started. */
  shell: string;
  /** The one line on our stdin: path of the script, then `-F` arguments. */
  line: string;
  environment: NodeJS.ProcessEnv;
  stdout: Writable;
  stderr: Writable;
  /** Calls back for SIGTERM and SIGINT of ours. */
  onSignal: (listener: (name: 'TERM' | 'INT') => void) => void;
}

export interface JobResult {
  exitCode: number;
  /** The signal of which we should die as the job did, for the mom to see it as it would without us. */
  diedOf: 'SIGTERM' | 'SIGINT' | undefined;
}

const SIGNALS = { TERM: { name: 'SIGTERM', exitCode: 143 }, INT: { name: 'SIGINT', exitCode: 130 } } as const;

/** Runs the job to its end and leaves its outcome for the epilogue. Never throws: what goes wrong is told on
 * the job's stderr and by the exit code that goes with the fault. */
export async function runJob(options: RunJobOptions): Promise<JobResult> {
  const begun = performance.now();
  const paths = sessionPaths(options.state, options.jobId);
  const signals: ('TERM' | 'INT')[] = [];
  let session: JobSession | undefined;
  options.onSignal((name) => {
    signals.push(name);
    void session?.signal(name);
  });
  const leave = (outcome: Omit<Outcome, 'version'>) => leaveOutcome(paths.outcome, outcome);
  try {
    const known = readSession(paths, options.jobId);
    const { script, name, rest } = readScript(options);
    const { guest } = known;
    session = new JobSession({
      connection: { ...known, timeoutMs: 20_000 },
      launch: {
        directory: `/var/tmp/vmbatch-${options.jobId}`,
        scriptName: name,
        script,
        scriptArguments: rest,
        environment: jobEnvironment(options.environment),
        nodeFile: readNodeFile(options.environment['PBS_NODEFILE']),
        shell: options.shell,
        login: options.shell === known.loginShell,
      },
      stdout: options.stdout,
      stderr: options.stderr,
      connectMs: known.connectMs,
      reconnectMs: known.reconnectMs,
      guestLives: () => guest === undefined || processRuns(guest),
    });
    for (const signal of signals) void session.signal(signal);
    const end = await session.run();
    const all = (performance.now() - begun) / 1000;
    leave({
      exitCode: end.exitCode,
      reconnects: end.reconnects,
      seconds: { connect: round(end.connectSeconds), job: round(all - end.connectSeconds) },
    });
    const died = signals.find((signal) => SIGNALS[signal].exitCode === end.exitCode);
    return { exitCode: end.exitCode, diedOf: died === undefined ? undefined : SIGNALS[died].name };
  } catch (thrown) {
    const error = toVmbatchError(thrown);
    options.stderr.write(`${formatError(error)}\n`);
    leave({ fault: error.fault, message: error.message.slice(0, 1000) });
    return { exitCode: FAULT_OUTCOMES[error.fault].starterExit, diedOf: undefined };
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

function jobEnvironment(environment: NodeJS.ProcessEnv): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(environment)) {
    if (value === undefined || NOT_THE_JOBS.has(name)) continue;
    result[name.startsWith(KEPT_PREFIX) ? name.slice(KEPT_PREFIX.length) : name] = value;
  }
  return result;
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
