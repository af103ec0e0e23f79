// How many processes a program starts.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { environment, type Program } from './measure.ts';
import type { Site } from './site.ts';

/** Counts processes, not threads; undefined without strace. */
export function processesOf({ argv, env }: Program, site: Pick<Site, 'scratch'>): number | undefined {
  if (spawnSync('strace', ['-V'], { stdio: 'ignore' }).status !== 0) return undefined;
  const trace = join(site.scratch, 'trace');
  const args = [
    '-f',
    '-qq',
    '-e',
    'trace=clone,clone3,fork,vfork',
    '-e',
    'signal=none',
    '-o',
    trace,
    ...argv,
  ];
  const { status } = spawnSync('strace', args, { env: { ...environment(), ...env }, stdio: 'ignore' });
  if (status !== 0) throw new Error(`${argv.join(' ')}: exit code ${status} under strace`);
  const calls = readFileSync(trace, 'utf8').split('\n');
  // The first process is there already. An interrupted call is written in two lines; its end has the result.
  return (
    1 +
    calls.filter(
      (line) => /\b(?:clone3?|v?fork)\b/.test(line) && /= [1-9]\d*$/.test(line) && !isThread(line, calls),
    ).length
  );
}

/** Flags stand in the line in which the call begins. */
function isThread(line: string, calls: readonly string[]): boolean {
  if (!line.includes('resumed')) return line.includes('CLONE_THREAD');
  const pid = line.split(' ')[0] ?? '';
  const begun = calls.slice(0, calls.indexOf(line)).findLast((call) => call.startsWith(`${pid} `));
  return begun?.includes('CLONE_THREAD') ?? false;
}

/** Counts the processes of a program, but not what those named `below` start in turn; undefined without
 * strace. */
export async function countProcesses(
  argv: readonly string[],
  options: { cwd: string; env: NodeJS.ProcessEnv; below: string },
): Promise<number | undefined> {
  if (spawnSync('strace', ['-V'], { stdio: 'ignore' }).status !== 0) return undefined;
  const folder = mkdtempSync(join(tmpdir(), 'vmbatch-bench-trace-'));
  try {
    // What is started may outlive the program: strace would wait for it.
    const done = join(folder, 'done');
    const wait = ['sh', '-c', 'done=$1; shift; "$@" >/dev/null 2>&1; echo $? >"$done"', 'sh', done];
    const args = ['-ff', '-qq', '-e', 'trace=clone,clone3,fork,vfork,execve', '-e', 'signal=none'];
    const { cwd, env } = options;
    const strace = spawn('strace', [...args, '-o', join(folder, 't'), ...wait, ...argv], {
      cwd,
      env,
      stdio: 'ignore',
    });
    for (
      const deadline = performance.now() + 60_000;
      !existsSync(done) || readFileSync(done, 'utf8') === '';
      await sleep(50)
    )
      if (performance.now() > deadline) throw new Error(`${argv.join(' ')} does not end under strace`);
    const status = readFileSync(done, 'utf8').trim();
    strace.kill('SIGKILL');
    rmSync(done);
    if (status !== '0') throw new Error(`${argv.join(' ')}: exit code ${status} under strace`);
    const traces = new Map(
      readdirSync(folder).map((name) => [
        Number(name.split('.').at(-1)),
        readFileSync(join(folder, name), 'utf8'),
      ]),
    );
    const children = (pid: number): number[] =>
      (traces.get(pid) ?? '')
        .split('\n')
        .filter((line) => /^(?:clone3?|v?fork)\(/.test(line) && !line.includes('CLONE_THREAD'))
        .flatMap((line) => Number(/= ([1-9]\d*)$/.exec(line)?.[1] ?? 0) || []);
    const threads = (pid: number): number[] =>
      (traces.get(pid) ?? '')
        .split('\n')
        .filter((line) => line.includes('CLONE_THREAD'))
        .flatMap((line) => Number(/= ([1-9]\d*)$/.exec(line)?.[1] ?? 0) || []);
    const count = (pid: number): number => {
      const isBelow = new RegExp(`^execve\\("[^"]*/${options.below}"`, 'm').test(traces.get(pid) ?? '');
      if (isBelow) return 1;
      const all = [pid, ...threads(pid)].flatMap(children);
      return 1 + all.reduce((sum, child) => sum + count(child), 0);
    };
    // Less the shell that we wrapped around it.
    return count(Math.min(...traces.keys())) - 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
