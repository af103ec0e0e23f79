// A server program that a demo or test starts for itself: its own process group, a log, stopped by its pid.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { VmbatchError } from '../../src/util/errors.ts';
import { signalGroup } from './sheltered.ts';

export interface Daemon {
  pid: number;
  /** Until it is gone: SIGTERM first, SIGKILL after `graceMs`. May be called again. */
  stop(graceMs?: number): Promise<void>;
  /** Why it is not running any more, with the end of its log; undefined while it runs. */
  whyEnded(): string | undefined;
}

/** The words that start a program in a network namespace; undefined: in ours. nsenter becomes the program:
 * the process stays the same. */
export function insideNamespace(namespace: string | undefined, words: readonly string[]): string[] {
  return namespace === undefined ? [...words] : ['nsenter', `--net=/run/netns/${namespace}`, '--', ...words];
}

/** Starts a program that stays in the foreground. It gets a process group of its own, so that Ctrl-C on the
 * terminal does not end it before whoever started it has cleaned up.
 * @param namespace network namespace that it runs in; undefined: ours.
 * @param log file that its stdout and stderr are appended to.
 * @throws VmbatchError `node` naming the Debian package if the program is missing. */
export async function startDaemon(
  name: string,
  program: string,
  args: readonly string[],
  options: { log: string; debianPackage: string; env?: NodeJS.ProcessEnv; namespace?: string | undefined },
): Promise<Daemon> {
  const output = openSync(options.log, 'a', 0o600);
  const { namespace } = options;
  const words = insideNamespace(namespace, [program, ...args]);
  const child = spawn(words[0] ?? program, words.slice(1), {
    detached: true,
    stdio: ['ignore', output, output],
    env: options.env ?? process.env,
  });
  try {
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
  } catch (cause) {
    throw new VmbatchError({
      fault: 'node',
      code: 'tool-missing',
      message: `${name} cannot be started: ${program} is not installed or may not be executed`,
      hint: `apt-get install --no-install-recommends ${options.debianPackage}`,
      cause,
    });
  } finally {
    closeSync(output);
  }
  const ended = () => child.exitCode !== null || child.signalCode !== null;
  return {
    pid: child.pid ?? 0,
    stop: (graceMs = 5_000) => stop(child, ended, graceMs),
    whyEnded: () => {
      if (!ended()) return undefined;
      const how = child.signalCode === null ? `exited with ${child.exitCode}` : `died of ${child.signalCode}`;
      return `${name} ${how}${logEnd(options.log)}`;
    },
  };
}

/** Waits until `ready` says so; stops the daemon if that fails.
 * @throws VmbatchError `node` if the daemon ended or `deadlineMs` passed; the reason of `signal`. */
export async function waitForDaemon(
  name: string,
  daemon: Daemon,
  ready: () => Promise<boolean>,
  deadlineMs: number,
  log: string,
  signal?: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  try {
    while (!(await ready())) {
      signal?.throwIfAborted();
      const ended = daemon.whyEnded();
      if (ended === undefined && performance.now() < deadline) {
        await sleep(50);
        continue;
      }
      throw new VmbatchError({
        fault: 'node',
        code: 'site-daemon',
        message: ended ?? `${name} did not answer within ${deadlineMs / 1000} s${logEnd(log)}`,
      });
    }
  } catch (error) {
    await daemon.stop();
    throw error;
  }
}

async function stop(child: ChildProcess, ended: () => boolean, graceMs: number): Promise<void> {
  if (ended()) return;
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGTERM');
  // What it may have started in its group must not outlive it.
  const killer = setTimeout(() => signalGroup(child.pid, 'SIGKILL'), graceMs);
  await gone;
  clearTimeout(killer);
}

function logEnd(log: string): string {
  if (!existsSync(log)) return '';
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-3).join(' | ');
  return lines === '' ? '' : `; the end of ${log}: ${lines}`;
}
