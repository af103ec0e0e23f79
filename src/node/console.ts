// The end of a guest's console: what it said last is what an admin wants to know of a start that failed.
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { printable } from '../util/log.ts';

const TAIL_BYTES = 4096;
const TAIL_LINES = 5;

/** The last lines, fit for a log; empty if there is no console. What stands there is the guest's text. */
export function consoleTail(path: string): string[] {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch {
    return [];
  }
  try {
    const { size } = fstatSync(fd);
    const buffer = Buffer.alloc(Math.min(size, TAIL_BYTES));
    readSync(fd, buffer, 0, buffer.length, size - buffer.length);
    return buffer
      .toString('latin1')
      .split('\n')
      .map(printable)
      .filter((line) => line !== '')
      .slice(-TAIL_LINES);
  } finally {
    closeSync(fd);
  }
}

/** The guest service's own word that it failed, if the console's end has it. It reports on the share as well;
 * this is for when that is what failed. */
export function guestServiceFailure(path: string): string | undefined {
  return consoleTail(path)
    .map((line) => /^vmbatch-guest: (?:\[[\d.]+\] )?(.* failed.*)/.exec(line)?.[1])
    .find((failure) => failure !== undefined);
}
