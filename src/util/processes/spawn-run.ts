// Running other programs with nothing but Node: what the commands that A-REX starts all the time use, since
// loading execa costs them nearly as much as starting Node. The same port as `run`, and the same behaviour:
// one table of tests.
import { type ChildProcess, spawn } from 'node:child_process';
import { readSync } from 'node:fs';
import { monotonicMs } from '../clock.ts';
import { errnoOf } from '../errors.ts';
import { readAt, withUnlinkedFile } from '../files/unlinked-file.ts';
import {
  DEFAULT_MAX_BYTES,
  DEFAULT_TIMEOUT_MS,
  KILL_DELAY_MS,
  type Run,
  type RunOptions,
  type RunResult,
} from './run.ts';

/** Runs `file` with `args` without execa. */
export const spawnRun: Run = async (file, args, options = {}) => {
  const started = monotonicMs();
  const result: RunResult = {
    command: [file, ...args].join(' '),
    exitCode: undefined,
    signal: undefined,
    stdout: '',
    stderr: '',
    timedOut: false,
    cancelled: false,
    notFound: false,
    seconds: 0,
  };
  if (options.signal?.aborted) return { ...result, cancelled: true };
  try {
    if (options.viaFiles) await runWithFiles(file, args, options, result);
    else await follow(start(file, args, options, ['pipe', 'pipe']), options, result);
  } catch (error) {
    // What kept it from starting: no such program, too many arguments, no memory.
    result.notFound = errnoOf(error) === 'ENOENT' || errnoOf(error) === 'EACCES';
    if (!result.notFound) result.stderr = errnoOf(error) ?? String(error);
  }
  result.seconds = (monotonicMs() - started) / 1000;
  return result;
};

async function runWithFiles(
  file: string,
  args: readonly string[],
  options: RunOptions,
  result: RunResult,
): Promise<void> {
  const empty = new Uint8Array();
  const maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
  await withUnlinkedFile(empty, (stdout) =>
    withUnlinkedFile(empty, async (stderr) => {
      await follow(start(file, args, options, [stdout, stderr]), options, result);
      if (options.onStdout !== undefined) handOver(stdout, options.onStdout);
      else result.stdout = readAt(stdout, 0, maxBytes).toString('utf8');
      result.stderr = readAt(stderr, 0, maxBytes).toString('utf8');
    }),
  );
}

/** The file's bytes, piece by piece in the same memory. */
function handOver(fd: number, onStdout: (chunk: Uint8Array) => void): void {
  const piece = Buffer.allocUnsafeSlow(256 * 1024);
  for (let from = 0, got = -1; got !== 0; from += got) {
    got = readSync(fd, piece, 0, piece.length, from);
    if (got > 0) onStdout(piece.subarray(0, got));
  }
}

function start(
  file: string,
  args: readonly string[],
  options: RunOptions,
  output: ['pipe', 'pipe'] | [number, number],
): ChildProcess {
  const stdin = options.stdinFd ?? (options.input === undefined ? 'ignore' : 'pipe');
  return spawn(file, args, {
    stdio: [stdin, ...output],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: options.env }),
  });
}

/** Fills in `result` until the program has ended and its output is complete.
 * @throws the system's error if it did not start */
function follow(child: ChildProcess, options: RunOptions, result: RunResult): Promise<void> {
  const maxBytes = options.maxBytes ?? DEFAULT_MAX_BYTES;
  let killing: NodeJS.Timeout | undefined;
  let ended = false;
  let stopping = false;
  const dropOutput = () => {
    child.stdout?.destroy();
    child.stderr?.destroy();
  };
  const stop = () => {
    stopping = true;
    // Somebody it started may hold the pipes; who was told to end is not waited for any longer than itself.
    if (ended) return dropOutput();
    child.kill('SIGTERM');
    killing ??= setTimeout(() => child.kill('SIGKILL'), KILL_DELAY_MS);
  };
  const stdout = keep(maxBytes, stop);
  const stderr = keep(maxBytes, stop);
  child.stdout?.on('data', options.onStdout ?? stdout.add);
  child.stderr?.on('data', stderr.add);
  // A program may end without having read what it was given.
  child.stdin?.on('error', () => undefined);
  if (options.input !== undefined) child.stdin?.end(options.input);

  const timer = setTimeout(() => {
    result.timedOut = true;
    stop();
  }, options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const cancel = () => {
    result.cancelled = true;
    stop();
  };
  options.signal?.addEventListener('abort', cancel, { once: true });
  const forget = endWithUs(child);

  return new Promise<void>((resolve, reject) => {
    child.once('error', (error) => {
      // After the start it only means that a signal could not be sent.
      if (child.pid === undefined) reject(error);
    });
    child.once('exit', () => {
      ended = true;
      clearTimeout(killing);
      if (stopping) dropOutput();
    });
    child.once('close', (code, signal) => {
      // What did not start is closed as well, with a code of Node's own.
      if (child.pid === undefined) return;
      result.exitCode = code ?? undefined;
      result.signal = signal ?? undefined;
      result.stdout = stdout.text();
      result.stderr = stderr.text();
      resolve();
    });
  }).finally(() => {
    clearTimeout(timer);
    clearTimeout(killing);
    options.signal?.removeEventListener('abort', cancel);
    forget();
  });
}

/** Keeps the first `maxBytes`; `full` is called when there is more. */
function keep(maxBytes: number, full: () => void) {
  const chunks: Uint8Array[] = [];
  let room = maxBytes;
  return {
    add: (chunk: Uint8Array) => {
      chunks.push(chunk.subarray(0, room));
      if (chunk.length > room) full();
      room = Math.max(room - chunk.length, 0);
    },
    text: () => Buffer.concat(chunks).toString('utf8'),
  };
}

const ENDING_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

const running = new Set<ChildProcess>();

/** A program does not outlive us if a signal ends us, and we still end by that signal. Where somebody else
 * listens to it, it is up to them. Returns what takes that back. */
function endWithUs(child: ChildProcess): () => void {
  if (running.size === 0) for (const signal of ENDING_SIGNALS) process.on(signal, endAll);
  running.add(child);
  return () => {
    running.delete(child);
    if (running.size === 0) for (const signal of ENDING_SIGNALS) process.off(signal, endAll);
  };
}

function endAll(signal: NodeJS.Signals): void {
  if (process.listenerCount(signal) > 1) return;
  for (const child of running) child.kill('SIGTERM');
  process.off(signal, endAll);
  process.kill(process.pid, signal);
}
