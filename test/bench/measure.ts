// CPU time of a program with all that it starts and waits for: bash's `time`, which has milliseconds.
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';

/** The account that stands for a grid user. */
export const USER = { uid: 65534, gid: 65534 };

export interface Program {
  argv: readonly string[];
  env?: Readonly<Record<string, string>>;
  /** As whom; default: root. */
  asUser?: boolean;
  /** Exit codes that are no failure. Default: 0. */
  allowed?: readonly number[];
}

export interface Usage {
  cpuMs: number;
  wallMs: number;
  stdout: string;
}

const TIMED = `
TIMEFORMAT='%3U %3S %3R'
{ time "$@" < /dev/null 2> "$BENCH_STDERR"; } 2> "$BENCH_TIMES"
`;

const AS_USER = ['setpriv', '--reuid', String(USER.uid), '--regid', String(USER.gid), '--clear-groups'];

/** Runs a program to its end.
 * @param scratch a folder for two small files, writable for everybody
 * @throws if it fails: what did not work is no measurement */
export function usageOf(program: Program, scratch: string): Usage {
  const times = `${scratch}/times`;
  const stderr = `${scratch}/stderr`;
  for (const file of [times, stderr]) rmSync(file, { force: true });
  const [file = '', ...args] = [
    ...(program.asUser === true ? AS_USER : []),
    'bash',
    '-c',
    TIMED,
    'bash',
    ...program.argv,
  ];
  const env = { ...environment(), ...program.env, BENCH_TIMES: times, BENCH_STDERR: stderr, LC_ALL: 'C' };
  const result = spawnSync(file, args, { env, encoding: 'utf8', maxBuffer: 1024 ** 3 });
  if (result.error !== undefined) throw result.error;
  if (!(program.allowed ?? [0]).includes(result.status ?? -1))
    throw new Error(
      `${program.argv.join(' ')}: exit code ${result.status}\n${result.stdout.slice(-2000)}${readFileSync(stderr, 'utf8').slice(-4000)}`,
    );
  const [user, system, real] = readFileSync(times, 'utf8').trim().split(' ').map(Number);
  if (user === undefined || system === undefined || real === undefined) throw new Error(`${times}: no times`);
  return { cpuMs: (user + system) * 1000, wallMs: real * 1000, stdout: result.stdout };
}

/** Ours, without what would change a program's start. */
export function environment(): NodeJS.ProcessEnv {
  const { NODE_EXTRA_CA_CERTS: _certificates, NODE_OPTIONS: _options, ...rest } = process.env;
  return rest;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  const lower = sorted[sorted.length % 2 === 1 ? middle : middle - 1];
  if (upper === undefined || lower === undefined) throw new Error('no values');
  return (upper + lower) / 2;
}

export interface Comparison {
  ours: number;
  reference: number;
  /** Median of the turns' ratios: two programs that ran one after the other met the same machine. */
  ratio: number;
}

/** Ours and the reference by turns; the first turn only warms caches up, unless it is the only one. */
export function compare(turns: number, ours: () => number, reference: () => number): Comparison {
  const pairs: { ours: number; reference: number }[] = [];
  for (let turn = 0; turn < turns + (turns > 3 ? 1 : 0); turn++)
    pairs.push({ ours: ours(), reference: reference() });
  if (turns > 3) pairs.shift();
  return {
    ours: median(pairs.map((pair) => pair.ours)),
    reference: median(pairs.map((pair) => pair.reference)),
    ratio: median(pairs.map((pair) => pair.ours / pair.reference)),
  };
}
