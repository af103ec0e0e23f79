// What the demo says at its end, for people, in 80 columns.
import { readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import Table from 'cli-table3';
import picocolors from 'picocolors';
import type { DemoResult } from './demo-job.ts';

// On a terminal only: picocolors alone would take a CI for one.
const colours = picocolors.createColors(process.stdout.isTTY === true && picocolors.isColorSupported);

const BORDERS = ['top', 'bottom', 'left', 'right'].flatMap((side) =>
  ['', '-mid', '-left', '-right'].map((part) => `${side}${part}`),
);
/** No lines but one blank between columns. */
const NO_LINES = Object.fromEntries(
  [...BORDERS, 'mid', 'mid-mid', 'left-mid', 'right-mid'].map((name) => [name, '']),
);

export function report(result: DemoResult): string {
  const { output } = result;
  const verdict = result.ranInGuest ? colours.green(`yes, under ${result.hypervisor}`) : colours.red('no');
  return [
    heading('The job said (std.out)'),
    indented(output.stdout),
    heading('std.err'),
    indented(output.stderr),
    heading('result.txt, made from input.txt'),
    indented(output.result),
    heading(`Did it run in a virtual machine of its own? ${verdict}`),
    proof(result),
    heading('Where the time went'),
    times(result),
    heading('What A-REX reads'),
    indented(`lrms_done: ${`${result.exitCode} ${result.lrmsText}`.trimEnd()}\n${output.diag}`),
    heading('What is left of it on the node'),
    left(result),
    '',
  ].join('\n');
}

function proof({ output, hostBootId }: DemoResult): string {
  const seen = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(output.stdout)?.[1] ?? '?';
  const kernel = (name: string) => readFileSync(`/proc/sys/kernel/${name}`, 'utf8').trim();
  const mebibytes = (kibibytes: number) => `${Math.round(kibibytes / 1024)} MiB`;
  const rows = [
    ['hostname', seen('hostname'), kernel('hostname')],
    ['kernel', seen('kernel'), kernel('osrelease')],
    ['processors', seen('processors'), String(cpus().length)],
    ['memory', mebibytes(Number(/\d+/.exec(seen('memory'))?.[0])), mebibytes(totalmem() / 1024)],
    // The first half tells them apart.
    ['boot id', `${seen('boot id').slice(0, 18)}…`, `${hostBootId.slice(0, 18)}…`],
  ];
  return table(['', 'the job saw', 'this machine'], rows, { widths: [14, 31, 31] });
}

function times({ seconds }: DemoResult): string {
  const notes: Partial<Record<string, string>> = { guestBoot: 'part of prologue' };
  const rows = Object.entries(seconds).map(([phase, value]) => [phase, value.toFixed(2), notes[phase] ?? '']);
  return table(['phase', 'seconds', ''], rows, { right: [1] });
}

function left(result: DemoResult): string {
  return table(Object.keys(result.left), [Object.values(result.left).map(String)], {
    right: Object.keys(result.left).map((_, index) => index),
  });
}

function table(head: string[], rows: string[][], look: { widths?: number[]; right?: number[] }): string {
  const lines = new Table({
    head: head.map((title) => colours.dim(title)),
    chars: { ...NO_LINES, middle: ' ' },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 1 },
    colAligns: head.map((_, index) => (look.right?.includes(index) === true ? 'right' : 'left')),
    ...(look.widths === undefined ? {} : { colWidths: look.widths }),
  });
  lines.push(...rows);
  // Not broken: it fits, and colours have no width.
  return indent(lines.toString().replace(/[ \t]+$/gm, ''));
}

function heading(text: string): string {
  return `\n${colours.bold(text)}\n`;
}

/** On a terminal lines are broken where it would break them, but below one another. */
function indented(text: string): string {
  const width = (process.stdout.columns ?? Number.POSITIVE_INFINITY) - 4;
  const broken = (line: string): string => {
    if (line.length <= width) return line;
    const blank = line.lastIndexOf(' ', width);
    const end = blank > width / 2 ? blank : width;
    return `${line.slice(0, end)}\n${broken(`  ${line.slice(end).trimStart()}`)}`;
  };
  return text
    .trimEnd()
    .split('\n')
    .map(broken)
    .join('\n')
    .replace(/^(?=.)/gm, '    ');
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, '    ');
}
