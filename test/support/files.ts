// Files that come and go while they are looked at.
import { readFileSync } from 'node:fs';
import { errnoOf } from '../../src/util/errors.ts';

/** The text of a file; empty if it is not there, also if it goes between looking and reading. */
export function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    // A process that ends while its file in /proc is read.
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ESRCH') return '';
    throw error;
  }
}
