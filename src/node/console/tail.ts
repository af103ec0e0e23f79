// The end of a guest's console: what it said last is what an admin wants to know of a start that failed.
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { printable } from '../../util/log.ts';

const TAIL_BYTES = 4096;
const TAIL_LINES = 5;

/** The last bytes of a console, at most `maxBytes`; undefined if there is none. */
export function readConsoleEnd(path: string, maxBytes: number): Buffer | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  try {
    const { size } = fstatSync(fd);
    const buffer = Buffer.alloc(Math.min(size, maxBytes));
    const got = readSync(fd, buffer, 0, buffer.length, size - buffer.length);
    return buffer.subarray(0, got);
  } finally {
    closeSync(fd);
  }
}

/** The last lines, fit for a log; empty if there is no console. What stands there is the guest's text. */
export function consoleTail(path: string): string[] {
  return linesOf(readConsoleEnd(path, TAIL_BYTES)).slice(-TAIL_LINES);
}

function linesOf(bytes: Buffer | undefined): string[] {
  return (bytes?.toString('latin1') ?? '')
    .split('\n')
    .map(printable)
    .filter((line) => line !== '');
}

/** The guest service's own word that it failed, if the console's end has it. It reports on the share as well;
 * this is for when that is what failed. */
export function guestServiceFailure(path: string): string | undefined {
  return consoleTail(path)
    .map((line) => /^vmbatch-guest: (?:\[[\d.]+\] )?(.* failed.*)/.exec(line)?.[1])
    .find((failure) => failure !== undefined);
}

/** What a kernel says last, and what it means for a job. A domain that restarts is destroyed, so a reboot
 * ends it too. */
const LAST_WORDS: readonly (readonly [RegExp, string])[] = [
  [/reboot: Restarting system|Restarting system\./, 'the guest rebooted'],
  [/reboot: Power down|reboot: System halted|Power down\./, 'the guest was shut down from inside'],
  [/Kernel panic - not syncing/, "the guest's kernel panicked"],
];

/** Why a guest ended, as far as its console tells. */
export function lastWords(path: string): string | undefined {
  const lines = linesOf(readConsoleEnd(path, TAIL_BYTES)).reverse();
  for (const line of lines)
    for (const [pattern, meaning] of LAST_WORDS) if (pattern.test(line)) return meaning;
  return undefined;
}
