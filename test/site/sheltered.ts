// Running programs for a site: Ctrl-C on the terminal must not reach what starts it and what cleans up after
// it.
import { spawn } from 'node:child_process';
import type { RunOptions, RunResult } from '../../src/util/processes/run.ts';

/** As `run`, in a session of its own: only we end it, and all that it has started with it.
 * @param options.onStart is told the process id. */
export function runSheltered(
  file: string,
  args: readonly string[],
  options: RunOptions & { onStart?: (pid: number) => void } = {},
): Promise<RunResult> {
  const started = performance.now();
  const child = spawn(file, [...args], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: options.cwd,
    env: options.env,
  });
  if (child.pid !== undefined) options.onStart?.(child.pid);
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8');
    child[name].on('data', (text: string) => {
      output[name] += text;
    });
  }
  let timedOut = false;
  let cancelled = false;
  let killer: NodeJS.Timeout | undefined;
  const end = () => {
    signalGroup(child.pid, 'SIGTERM');
    killer = setTimeout(() => signalGroup(child.pid, 'SIGKILL'), 2_000);
  };
  const cancel = () => {
    cancelled = true;
    end();
  };
  const timer = setTimeout(() => {
    timedOut = true;
    end();
  }, options.timeoutMs ?? 60_000);
  if (options.signal?.aborted === true) cancel();
  else options.signal?.addEventListener('abort', cancel, { once: true });

  return new Promise((resolve) => {
    const finish = (exitCode: number | undefined, signal: string | undefined, notFound: boolean) => {
      clearTimeout(timer);
      clearTimeout(killer);
      // Whoever ended it wants its children gone as well.
      if (timedOut || cancelled) signalGroup(child.pid, 'SIGKILL');
      options.signal?.removeEventListener('abort', cancel);
      resolve({
        command: [file, ...args].join(' '),
        exitCode,
        signal,
        ...output,
        timedOut,
        cancelled,
        notFound,
        seconds: (performance.now() - started) / 1000,
      });
    };
    child.once('error', () => finish(undefined, undefined, true));
    child.once('close', (code, signal) => finish(code ?? undefined, signal ?? undefined, false));
  });
}

/** A signal for a process group; no error if it is gone. */
export function signalGroup(leader: number | undefined, signal: NodeJS.Signals): void {
  if (leader === undefined) return;
  try {
    process.kill(-leader, signal);
  } catch {
    // nobody is left in it
  }
}
