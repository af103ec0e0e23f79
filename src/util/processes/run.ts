// Running other programs: arrays of arguments, never a shell; a failed run is a result, not an exception. The
// port, and `run`, the way through it for all that is not in a hurry; the other is `spawnRun`.

/** How a run ended. `exitCode` is undefined when the program did not start or died of a signal. */
export interface RunResult {
  command: string;
  exitCode: number | undefined;
  signal: string | undefined;
  stdout: string;
  stderr: string;
  timedOut: boolean;
  cancelled: boolean;
  /** The program does not exist or may not be executed. */
  notFound: boolean;
  seconds: number;
}

export interface RunOptions {
  /** Text for stdin; `/dev/null` if absent. */
  input?: string | Uint8Array;
  /** An open file for stdin instead of `input`: the program reads it itself, from where it stands. Stays
   * open. */
  stdinFd?: number;
  /** Milliseconds until SIGTERM, and 2 s later SIGKILL. Default: 60 000. */
  timeoutMs?: number;
  signal?: AbortSignal;
  cwd?: string;
  /** The whole environment; default: ours. */
  env?: NodeJS.ProcessEnv;
  /** Bytes of output kept for each stream. Default: 64 MiB. */
  maxBytes?: number;
  /** Nobody needs the output before the end: `spawnRun` then gives the program files for stdout and stderr,
   * which cost Node less than pipes. What is beyond `maxBytes` is dropped, and does not end the program. */
  viaFiles?: boolean;
  /** Gets stdout as it comes (with `viaFiles`: after the end, piece by piece); the result's `stdout` is then
   * empty, and there is no bound to it. What it gets is there only during the call. */
  onStdout?: (chunk: Uint8Array) => void;
}

export const DEFAULT_TIMEOUT_MS = 60_000;
export const DEFAULT_MAX_BYTES = 64 * 1024 * 1024;

/** Milliseconds between SIGTERM and SIGKILL. */
export const KILL_DELAY_MS = 2_000;

/** The port through which a module runs programs, so that tests may put another in its place. */
export type Run = (file: string, args: readonly string[], options?: RunOptions) => Promise<RunResult>;

/** Runs `file` with `args`. Loads execa on first use: it costs as much as Node itself to start. */
export const run: Run = async (file, args, options = {}) => {
  const { execa } = await import('execa');
  const started = performance.now();
  const { onStdout } = options;
  const running = execa(file, [...args], {
    reject: false,
    stripFinalNewline: false,
    timeout: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
    forceKillAfterDelay: KILL_DELAY_MS,
    maxBuffer: options.maxBytes ?? DEFAULT_MAX_BYTES,
    // execa takes any descriptor; its types know the first only.
    ...(options.input === undefined
      ? { stdin: options.stdinFd === undefined ? ('ignore' as const) : (options.stdinFd as 0) }
      : { input: options.input }),
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: options.env, extendEnv: false }),
    ...(onStdout === undefined ? {} : { buffer: { stdout: false, stderr: true } }),
  });
  if (onStdout !== undefined) running.stdout?.on('data', onStdout);
  const result = await running;
  return {
    command: result.command,
    exitCode: result.exitCode,
    signal: result.signal,
    stdout: textOf(result.stdout),
    stderr: textOf(result.stderr),
    timedOut: result.timedOut,
    cancelled: result.isCanceled,
    notFound: result.code === 'ENOENT' || result.code === 'EACCES',
    seconds: (performance.now() - started) / 1000,
  };
};

const textOf = (output: unknown) => (typeof output === 'string' ? output : '');

/** One line that says how a run failed, for error messages. */
export function describeRun(result: RunResult): string {
  const how = result.notFound
    ? `is not installed or may not be executed${result.command.startsWith('/') ? '' : ` (PATH=${process.env['PATH'] ?? ''})`}`
    : result.timedOut
      ? `did not end within ${result.seconds.toFixed(0)} s`
      : result.signal !== undefined
        ? `died of ${result.signal}`
        : result.exitCode === undefined
          ? 'could not be started'
          : `exited with ${result.exitCode}`;
  const said = result.stderr.trim().split('\n').at(-1)?.slice(0, 300) ?? '';
  return `${result.command.split(' ')[0]} ${how}${said === '' ? '' : `: ${said}`}`;
}
