// Room on the disk for a guest: what is free, less what the guests that there are may still come to need. A
// job for which there is not enough waits or goes elsewhere, before it has begun.
import { lstatSync, readdirSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VmbatchError } from '../../util/errors.ts';
import { formatMebibytes, formatSize } from '../../util/units.ts';

/** What another job of this node may come to need. */
export interface Reservation {
  jobId: string;
  /** Bytes that its disks may grow to in all. */
  bytes: number;
  /** The folder in which its disks are. */
  directory: string;
  /** When it was made: of two that do not both fit, the earlier one comes first. Milliseconds since 1970. */
  since: number;
  /** Whether it was found that there is room for it. */
  granted: boolean;
}

export interface SpaceRequest {
  /** On the file system that is asked about. */
  directory: string;
  jobId: string;
  /** What this job's disks may grow to. */
  needBytes: number;
  /** What is to stay free in any case. */
  floorBytes: number;
  since: number;
  /** All other jobs of the node that have, or are about to have, disks. Asked at each look. */
  others: () => Reservation[];
  /** Writes down where others see it that there is room for this job, or after all not. */
  grant: (granted: boolean) => void;
  /** Gives up what nobody needs just now until `enough` says that there is room. */
  makeRoom?: (enough: () => boolean) => void;
  /** Milliseconds to wait for room. */
  waitMs: number;
  signal: AbortSignal;
  /** For tests. */
  freeBytes?: (directory: string) => number;
  intervalMs?: number;
}

/** Waits until there is room. This job's own reservation must be written down where others see it before this
 * is called.
 *
 * Two that look at the same moment never both start if only one fits: each writes its grant down and then
 * looks again. Whoever comes to write his reservation after that second look sees the grant, and whoever was
 * there before it is seen by it.
 * @throws VmbatchError `node` (`disk-full`) with the figures */
export async function waitForSpace(request: SpaceRequest): Promise<void> {
  const { directory, needBytes, floorBytes, waitMs, signal } = request;
  const started = performance.now();
  const look = () => {
    const free = (request.freeBytes ?? freeOn)(directory);
    const earlier = request.others().filter((other) => other.granted || comesBefore(other, request));
    const promised = earlier.reduce((sum, other) => sum + stillToCome(other), 0);
    return { free, earlier, promised, fits: free - promised - needBytes >= floorBytes };
  };
  for (;;) {
    signal.throwIfAborted();
    let found = look();
    if (!found.fits && request.makeRoom !== undefined) {
      request.makeRoom(() => look().fits);
      found = look();
    }
    if (found.fits) {
      request.grant(true);
      found = look();
      if (found.fits) return;
      request.grant(false);
    }
    const { free, earlier, promised } = found;
    if (performance.now() - started >= waitMs)
      throw new VmbatchError({
        fault: 'node',
        code: 'disk-full',
        message: `${directory} has ${formatMebibytes(free)} free, of which ${earlier.length} other guests may still need ${formatMebibytes(
          promised,
        )}; this guest needs ${formatMebibytes(needBytes)}, and ${formatSize(floorBytes)} are to stay free`,
        hint: 'make room, or lower disk.free_floor in the node file',
        jobId: request.jobId,
      });
    // Not in step with another that waits.
    const interval = (request.intervalMs ?? 1_000) * (0.75 + Math.random() / 2);
    await sleep(interval, undefined, { signal }).catch(() => undefined);
  }
}

/** Of two that are about to start, the one that asked first. */
function comesBefore(other: Reservation, { jobId, since }: SpaceRequest): boolean {
  return other.since < since || (other.since === since && other.jobId < jobId);
}

/** What is promised, less what its files occupy by now. */
function stillToCome({ directory, bytes }: Reservation): number {
  let occupied = 0;
  try {
    for (const name of readdirSync(directory))
      occupied += (lstatSync(join(directory, name)).blocks ?? 0) * 512;
  } catch {
    return 0; // it is gone, or going
  }
  return Math.max(0, bytes - occupied);
}

function freeOn(directory: string): number {
  const stats = statfsSync(directory);
  return stats.bfree * stats.bsize;
}
