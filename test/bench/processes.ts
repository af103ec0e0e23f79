// How many processes a program starts.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { environment, type Program } from './measure.ts';
import type { Site } from './site.ts';

/** Counts processes, not threads; undefined without strace. */
export function processesOf({ argv, env }: Program, site: Site): number | undefined {
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
