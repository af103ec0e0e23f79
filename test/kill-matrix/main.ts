// `npm run kill-matrix`: every step × moment × event × actor, and what is left then.
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { ACTORS, allCells, type Cell, describeCell, EVENTS } from './cells.ts';
import { install } from './faults.ts';
import { type Result, runCell } from './run-cell.ts';

const HELP = `usage: npm run kill-matrix [-- [--json] [--only TEXT]]

Kills, or takes something away from, the prologue, the job starter, the epilogue and the reaper at every step of a guest's
life: fake hypervisor, real files, real processes. Then TORQUE's epilogue and the reaper run, and what is left is counted.
  --json          print one JSON object
  --only TEXT     only cells whose description contains it, such as "SIGKILL to the prologue"
Last line: cells N leaks M. Exit code: 0 no leaks, 1 leaks.
`;

/** More than processors: cells wait for deadlines most of the time. */
const AT_ONCE = 8 * availableParallelism();
const MOST_EFFECTS = 64;

function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean' },
      only: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) {
    process.stdout.write(HELP);
    return Promise.resolve(0);
  }
  if (process.getuid?.() !== 0) throw new Error('hooks run as root, and so must this');
  return runAll(values);
}

async function runAll(options: { json?: boolean; only?: string; 'every-effect'?: boolean }): Promise<number> {
  install();
  const begun = performance.now();
  const base = mkdtempSync(join(tmpdir(), 'vmbatch-matrix-'));
  // Files on the share are their user's.
  chmodSync(base, 0o755);
  const chosen = allCells().filter((cell) => describeCell(cell).includes(options.only ?? ''));
  const results: Result[] = [];
  let number = 0;
  const runOne = async (cell: Cell): Promise<void> => {
    const result = await runCell(cell, join(base, String(number++)), join(__dirname, 'actor.cjs'));
    if (!result.reached) return;
    results.push(result);
    if (options.json !== true)
      for (const leak of result.leaks) process.stdout.write(`${describeCell(cell)}: ${leak}\n`);
    // A process may be killed at any instant: so after each effect that the step has on the world, not only
    // the first.
    const goesOn = cell.event === 'SIGKILL' && cell.phase === 'during' && cell.actor !== 'starter';
    if (goesOn && cell.effect < MOST_EFFECTS) await runOne({ ...cell, effect: cell.effect + 1 });
  };
  const queue = [...chosen];
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let cell = queue.shift(); cell !== undefined; cell = queue.shift()) await runOne(cell);
    }),
  );
  rmSync(base, { recursive: true, force: true });
  const leaks = results.filter((result) => result.leaks.length > 0);
  const seconds = Math.round((performance.now() - begun) / 100) / 10;
  if (options.json === true)
    process.stdout.write(
      `${JSON.stringify({ cells: results.length, leaks: leaks.length, seconds, failed: leaks.map(({ cell, leaks: of }) => ({ cell, leaks: of })) })}\n`,
    );
  else {
    print(results);
    process.stdout.write(`${seconds} s\n`);
  }
  process.stdout.write(`cells ${results.length} leaks ${leaks.length}\n`);
  return leaks.length === 0 ? 0 : 1;
}

/** Cells and leaks by actor and event. */
function print(results: readonly Result[]): void {
  const table = new Table({ head: ['', ...ACTORS], style: { head: [], border: [] } });
  for (const event of EVENTS)
    table.push([
      event,
      ...ACTORS.map((actor) => {
        const of = results.filter(({ cell }) => cell.event === event && cell.actor === actor);
        return `${of.length} (${of.filter(({ leaks }) => leaks.length > 0).length} leaks)`;
      }),
    ]);
  process.stdout.write(`${table.toString()}\n`);
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 2;
  },
);
