// The shell that runs stage 0: started in a process group of its own, heard through files, never outlived.
// Files in place of pipes: Node takes 5 ms less for them, a tenth of a submission, and nothing keeps us
// waiting that a script leaves in the background.
import { spawn } from 'node:child_process';
import { fstatSync } from 'node:fs';
import { readAt, withUnlinkedFile } from '../../util/files/unlinked-file.ts';
import { parseShellVariables } from './shell-variables.ts';

export interface ShellOptions {
  /** Program and options; the script's path comes behind them. */
  shell: readonly string[];
  /** As `templates/stage-zero.sh.ejs` makes it. */
  script: Uint8Array;
  environment: NodeJS.ProcessEnv;
  timeoutMs: number;
  /** Whether the value of this variable is wanted. */
  wanted: (name: string) => boolean;
  log: (chunk: Uint8Array) => void;
}

/** How it went. */
export interface ShellEnd {
  /** All variables that are wanted, byte for byte; undefined if the shell did not come to its end. */
  values: ReadonlyMap<string, string> | undefined;
  /** The runtime environment that ran last, if one was running. Byte string. */
  running: string | undefined;
  /** That one is not there. */
  missing: boolean;
  /** What it returned. */
  code: number | undefined;
  exitCode: number | undefined;
  signal: NodeJS.Signals | undefined;
  timedOut: boolean;
  /** It was ended for that. */
  printedTooMuch: boolean;
  /** Why the shell could not run or be understood. */
  problem: string | undefined;
  /** What was printed: first by the shell itself, where it says something, then by each runtime environment
   * that ran. */
  said: Said[];
}

/** Byte strings; of what is too long, the beginning and the end. */
interface Said {
  /** Of the runtime environment; empty for the shell. */
  name: string;
  stdout: string;
  stderr: string;
}

/** What scripts print beyond this does not get into the log. */
const LOG_MAX_BYTES = 1024 * 1024;
/** All variables of a shell, quoted; a grami file has at most 8 MiB. */
const RECORDS_MAX_BYTES = 64 * 1024 * 1024;
/** Scripts that print more are ended, before they fill the disk. */
export const PRINTED_MAX_BYTES = 64 * 1024 * 1024;
const LOOK_MS = 250;

const ENDING_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

/** Runs the shell. A signal that ends us ends all processes of its group first. */
export async function runStageZeroShell(options: ShellOptions): Promise<ShellEnd> {
  const empty = new Uint8Array();
  return await withUnlinkedFile(options.script, (script) =>
    withUnlinkedFile(empty, (records) =>
      withUnlinkedFile(empty, (stdout) =>
        withUnlinkedFile(empty, async (stderr) => {
          const end: ShellEnd = {
            ...{
              values: undefined,
              running: undefined,
              missing: false,
              code: undefined,
              exitCode: undefined,
            },
            ...{ signal: undefined, timedOut: false, printedTooMuch: false, problem: undefined, said: [] },
          };
          await follow(options, { script, records, stdout, stderr }, end);
          const names = readRecords(records, options.wanted, end);
          const [out, err] = [printed(stdout), printed(stderr)];
          for (const [index, name] of ['', ...names].entries())
            end.said.push({ name, stdout: out[index] ?? '', stderr: err[index] ?? '' });
          const log = end.said.map((part) => part.stdout + part.stderr).join('');
          if (log !== '') options.log(Buffer.from(log.slice(0, LOG_MAX_BYTES), 'latin1'));
          return end;
        }),
      ),
    ),
  );
}

/** What the shell prints between one runtime environment and the next. */
const NEXT = '\0vmbatch\0';

/** What the shell printed, then what each runtime environment did. */
function printed(fd: number): string[] {
  const { size } = fstatSync(fd);
  const half = LOG_MAX_BYTES / 2;
  const head = readAt(fd, 0, half).toString('latin1');
  const tail = readAt(fd, Math.max(half, size - half), size).toString('latin1');
  return (head + tail).split(NEXT);
}

/** Open files. */
interface Files {
  script: number;
  records: number;
  stdout: number;
  stderr: number;
}

/** Starts the shell and waits for its end. */
function follow(options: ShellOptions, files: Files, end: ShellEnd): Promise<void> {
  const [program = '/bin/sh', ...shellOptions] = options.shell;
  const child = spawn(program, [...shellOptions, '/dev/fd/4'], {
    // A group of its own, so that what the scripts start can be ended with them.
    detached: true,
    stdio: ['ignore', files.stdout, files.stderr, files.records, files.script],
    env: options.environment,
  });
  const kill = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
    } catch {
      // No process is left in it.
    }
  };
  const timer = setTimeout(() => {
    end.timedOut = true;
    kill();
  }, options.timeoutMs);
  const looking = setInterval(() => {
    if (
      fstatSync(files.stdout).size <= PRINTED_MAX_BYTES &&
      fstatSync(files.stderr).size <= PRINTED_MAX_BYTES &&
      fstatSync(files.records).size <= RECORDS_MAX_BYTES
    )
      return;
    end.printedTooMuch = true;
    kill();
  }, LOOK_MS);
  const handlers = ENDING_SIGNALS.map((signal) => {
    const stop = () => {
      kill();
      process.off(signal, stop);
      process.kill(process.pid, signal);
    };
    process.on(signal, stop);
    return { signal, stop };
  });
  return new Promise<void>((resolve) => {
    child.once('error', (error) => {
      end.problem ??= error.message;
      if (child.pid === undefined) resolve();
    });
    child.once('exit', (code, signal) => {
      end.exitCode = code ?? undefined;
      end.signal = signal ?? undefined;
      resolve();
    });
  }).finally(() => {
    clearTimeout(timer);
    clearInterval(looking);
    for (const { signal, stop } of handlers) process.off(signal, stop);
  });
}

/** `begin=NAME`, `missing=` or `failed=CODE`, at the end `variables=` with the shell's list.
 * @returns the names of those that ran */
function readRecords(fd: number, wanted: (name: string) => boolean, end: ShellEnd): string[] {
  const names: string[] = [];
  const { size } = fstatSync(fd);
  if (size > RECORDS_MAX_BYTES) end.problem ??= 'its variables are too large';
  if (end.problem !== undefined) return names;
  const records = readAt(fd, 0, size).toString('latin1').split('\0');
  // What stands behind the last NUL is not complete.
  for (const record of records.slice(0, -1)) {
    const equals = record.indexOf('=');
    const [key, value] = [record.slice(0, equals), record.slice(equals + 1)];
    if (key === 'begin') {
      end.running = value === '' ? undefined : value;
      if (value !== '') names.push(value);
    } else if (key === 'missing') end.missing = true;
    else if (key === 'failed') end.code = Number(value);
    else if (key === 'variables') {
      try {
        end.values = parseShellVariables(value, wanted);
      } catch (error) {
        end.problem = error instanceof Error ? error.message : String(error);
      }
    }
  }
  return names;
}
