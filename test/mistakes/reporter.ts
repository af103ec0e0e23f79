// Prints the table of mistakes after a run: what was planted, what is read first, where, and the exit code.
import Table from 'cli-table3';
import type { Reporter, TestCase } from 'vitest/node';
import type { SeenMistake } from './table.ts';

const LONGEST_TEXT = 600;

export default class MistakeTable implements Reporter {
  readonly #rows: (SeenMistake & { ok: boolean })[] = [];

  onTestCaseResult(test: TestCase): void {
    const { mistake } = test.meta();
    if (mistake !== undefined) this.#rows.push({ ...mistake, ok: test.result().state === 'passed' });
  }

  onTestRunEnd(): void {
    const table = new Table({
      head: ['mistake', 'first message', 'where', 'exit', 'ok'],
      colWidths: [34, 78, 16, 6, 5],
      wordWrap: true,
      style: { head: [], border: [] },
    });
    const rows = this.#rows.toSorted((one, other) => one.group.localeCompare(other.group));
    for (const { group, mistake, text, where, exit, ok } of rows) {
      const said = text.trim() === '' ? '(nothing)' : text.trim().slice(0, LONGEST_TEXT);
      table.push([`${group}: ${mistake}`, said, where, exit ?? '-', ok ? 'yes' : 'NO']);
    }
    process.stdout.write(`\n${table.toString()}\n`);
    process.stdout.write(`mistakes ${rows.length} misleading ${rows.filter(({ ok }) => !ok).length}\n`);
  }
}
