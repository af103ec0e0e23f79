// What a mom says of a job that ends: to its user, and to the server.
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { formatDuration } from '../common/format.ts';
import type { Pair } from '../common/protocol.ts';

/** Appends to the job's error file, which belongs to the user: it may have become a link or a FIFO. */
export function tellUser(path: string, text: string): void {
  try {
    const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const file = openSync(path, flags);
    writeSync(file, text);
    closeSync(file);
  } catch {
    // Then the user does without it.
  }
}

/** Resources used: the last sample with the final walltime, in the sample's order; without one, nothing but
 * time. */
export function usedAtEnd(sampled: readonly Pair[] | undefined, seconds: number): Pair[] {
  const walltime = formatDuration(seconds);
  if (sampled !== undefined) {
    return sampled.map(([name, value]): Pair => [name, name === 'walltime' ? walltime : value]);
  }
  return [
    ['cput', '00:00:00'],
    ['vmem', '0kb'],
    ['walltime', walltime],
    ['mem', '0kb'],
    ['energy_used', '0'],
  ];
}
