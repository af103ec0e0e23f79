// Room on the node's disk for a guest, as against all other jobs' records.

import { dropIdleCacheDisks } from '../../guest/disk/cache.ts';
import { type Reservation, waitForSpace } from '../../guest/disk/space.ts';
import type { NodeConfig } from '../../node-file/config.ts';
import {
  findRecord,
  type JobPaths,
  type JobRecord,
  jobIds,
  jobPaths,
  leaseDirectory,
  writeRecord,
} from '../record.ts';

/** Waits for room for the job's disks, and writes down that it has it.
 * @throws VmbatchError `node` (`disk-full`) */
export async function reserveSpace(
  config: NodeConfig,
  paths: JobPaths,
  record: JobRecord,
  needBytes: number,
  limits: { remainingMs: number; signal: AbortSignal },
): Promise<void> {
  const { state, disk } = config;
  const note = (granted: boolean) => {
    record.space = { bytes: needBytes, granted };
    writeRecord(paths, record);
  };
  note(false);
  await waitForSpace({
    directory: state,
    jobId: record.jobId,
    needBytes,
    floorBytes: disk.freeFloorBytes,
    since: record.startedAt,
    others: () => otherReservations(state, record.jobId),
    grant: note,
    // A cache disk that no guest has costs its account time, and not its job.
    makeRoom: (enough) => dropIdleCacheDisks(state, leaseDirectory(state), enough),
    waitMs: Math.min(disk.waitMs, limits.remainingMs),
    signal: limits.signal,
  });
}

function otherReservations(state: string, jobId: string): Reservation[] {
  return jobIds(state).flatMap((name) => {
    // Whatever one without a record had is not growing.
    const record = name === jobId ? undefined : findRecord(state, name);
    const { space, startedAt } = record ?? {};
    if (space === undefined || startedAt === undefined) return [];
    return [
      {
        jobId: name,
        bytes: space.bytes,
        granted: space.granted,
        directory: jobPaths(state, name).directory,
        since: startedAt,
      },
    ];
  });
}
