// npm run bench: every figure of docs/performance.md as ratios in one run. Prints, judges, and never fails on
// a figure.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { NODE_ROWS } from './node-rows.ts';
import { ROWS as CE_ROWS, type Context, type Figure } from './rows.ts';

const ROWS = [...CE_ROWS, ...NODE_ROWS];

const USAGE = `usage: npm run bench -- [--only ROW[,ROW...]] [--turns N] [--json] [--program FOLDER]

  --only     measure these rows only
  --turns    how often each is measured (ARC's scans take half a minute each; default: as often as suits the row)
  --json     one JSON document instead of the table
  --program  folder of the built program (default: dist)

rows:
${ROWS.map(({ name, about }) => `  ${name.padEnd(11)} ${about}`).join('\n')}
`;

interface Measured {
  row: string;
  figures: Figure[];
  /** Why there are none. */
  problem?: string;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      turns: { type: 'string' },
      json: { type: 'boolean', default: false },
      program: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const only = values.only?.split(',');
  const turns = values.turns === undefined ? undefined : Number(values.turns);
  const unknown = only?.find((name) => !ROWS.some((row) => row.name === name));
  if (unknown !== undefined || (turns !== undefined && !(Number.isInteger(turns) && turns > 0))) {
    process.stderr.write(USAGE);
    return 2;
  }
  if (process.getuid?.() !== 0) {
    process.stderr.write('bench: needs root: scan acts as the users of the jobs\n');
    return 2;
  }
  const program = values.program ?? join(import.meta.dirname, '..', '..', 'dist');
  if (!existsSync(join(program, 'vmbatch'))) {
    process.stderr.write(`bench: there is no program in ${program}: npm run build\n`);
    return 2;
  }
  const context: Context = { program, turns: (usual) => turns ?? usual };
  const measured: Measured[] = [];
  if (!values.json) process.stdout.write(HEADER);
  for (const { name, measure } of ROWS) {
    if (only !== undefined && !only.includes(name)) continue;
    const row: Measured = { row: name, figures: [] };
    try {
      row.figures = await measure(context);
      if (row.figures.length === 0) row.problem = 'not measured: strace is not installed';
    } catch (error) {
      row.problem = error instanceof Error ? error.message : String(error);
    }
    measured.push(row);
    if (!values.json) process.stdout.write(lines(row));
  }
  if (values.json) process.stdout.write(`${JSON.stringify(measured.map(judged), undefined, 2)}\n`);
  return 0;
}

const COLUMNS = [44, 12, 34, 8, 8] as const;

function line(...cells: string[]): string {
  return `${cells.map((cell, index) => cell.padEnd(COLUMNS[index] ?? 0)).join(' ')}`.trimEnd();
}

const HEADER = `${line('figure', 'ours', 'reference', 'ratio', 'must', 'holds')}\n`;

function lines({ row, figures, problem }: Measured): string {
  if (problem !== undefined) return `${line(row, '–', problem.split('\n')[0] ?? '')}\n`;
  return figures
    .map((figure) => {
      const { reference, unit } = figure;
      const isRatio = unit !== 'processes' && reference !== undefined;
      return `${line(
        figure.what,
        amount(figure.ours, unit),
        reference === undefined ? '' : `${reference.what}: ${amount(reference.value, unit)}`,
        isRatio ? figure.value.toFixed(figure.value < 0.1 ? 4 : 2) : '',
        figure.must === Number.POSITIVE_INFINITY
          ? ''
          : `≤ ${isRatio ? figure.must.toFixed(figure.must < 0.1 ? 2 : 2) : amount(figure.must, unit)}`,
        figure.must === Number.POSITIVE_INFINITY ? '' : figure.value <= figure.must ? 'yes' : 'NO',
      )}\n`;
    })
    .join('');
}

function amount(value: number, unit: Figure['unit']): string {
  if (unit === 'processes') return String(value);
  if (unit === 'times') return value.toFixed(2);
  if (unit === 's') return `${value.toFixed(2)} s`;
  if (unit === 'ms' && value >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  return `${value.toFixed(0)} ${unit}`;
}

function judged({ row, figures, problem }: Measured) {
  return {
    row,
    ...(problem === undefined ? {} : { problem }),
    figures: figures.map((figure) => ({ ...figure, holds: figure.value <= figure.must })),
  };
}

main().then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
    process.exitCode = 2;
  },
);
