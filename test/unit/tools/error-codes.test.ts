// The codes of errors: one list, each explained in docs/errors.md.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ERROR_CODES } from '../../../src/util/error-codes.ts';

const root = join(import.meta.dirname, '../../..');
const page = readFileSync(join(root, 'docs/errors.md'), 'utf8');
/** What stands in the first column of a table. */
const explained = new Set(
  [...page.matchAll(/^\| ((?:`[a-z0-9-]+`(?:, )?)+) \|/gm)].flatMap(([, cell]) =>
    [...(cell ?? '').matchAll(/`([a-z0-9-]+)`/g)].map(([, code]) => code ?? ''),
  ),
);

it('are all explained in docs/errors.md', () => {
  expect(ERROR_CODES.filter((code) => !explained.has(code))).toEqual([]);
});

it('are in use, in the program or in the shims of the hooks', () => {
  const texts = ['src', 'share'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name !== 'error-codes.ts')
      .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1')),
  );
  const all = texts.join('\n');
  expect(ERROR_CODES.filter((code) => !new RegExp(`['" ]${code}['" ]`).test(all))).toEqual([]);
});

it('are in alphabetical order, each once', () => {
  expect(ERROR_CODES).toEqual([...new Set(ERROR_CODES)].toSorted());
});
