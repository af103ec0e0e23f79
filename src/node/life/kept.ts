// Guests of failed jobs that are kept for a while, so that somebody can look into them. The record says until
// when; a process that sleeps until then, or whoever comes by later, removes them as an epilogue would have.
import type { Hypervisor } from '../../hypervisor/port.ts';
import type { Log } from '../../util/log.ts';
import { startInBackground } from '../background.ts';
import { claimJob } from '../claim.ts';
import { mustBeOwn } from '../owner/state-owner.ts';
import { findRecord, type JobRecord, jobIds, jobPaths, KEEPER } from '../record.ts';
import { type UndoFailure, undo } from './undo.ts';

/** How TORQUE says that a user ended his own job: 256 and SIGTERM or SIGKILL. Nobody needs to look into
 * that. */
const DELETED: readonly number[] = [271, 265];

/** Whether a job's end is one that somebody may want to look into. */
export function hasFailed(exitStatus: number, fault: string | undefined): boolean {
  return fault !== undefined || (exitStatus !== 0 && !DELETED.includes(exitStatus));
}

/** A shell that sleeps costs a hundredth of a Node that does. */
const SLEEP = 'sleep "$1"; shift 2; exec "$@"';

export interface KeeperProgram {
  node: string;
  vmbatch: string;
}

/** Starts the process that releases the guest when its time is over. It outlives us and holds nothing of
 * ours. */
export async function startKeeper(
  state: string,
  jobId: string,
  seconds: number,
  { node, vmbatch }: KeeperProgram,
): Promise<void> {
  const { directory } = jobPaths(state, jobId);
  const words = [String(seconds), directory, node, vmbatch, 'release', '--state', state, jobId];
  await startInBackground('/bin/sh', ['-c', SLEEP, KEEPER, ...words]);
}

/** Jobs whose guests are kept on this node, with the time (ms since 1970) until which. Broken records are
 * left alone. */
export function keptJobs(state: string): { jobId: string; until: number; record: JobRecord }[] {
  return jobIds(state).flatMap((jobId) => {
    const record = findRecord(state, jobId);
    return record?.keptUntil === undefined ? [] : [{ jobId, until: record.keptUntil, record }];
  });
}

/** Removes kept guests: all that are chosen.
 * @returns lines about what could not be removed. */
export async function releaseKept(
  state: string,
  chosen: (job: { jobId: string; until: number }) => boolean,
  openHypervisor: (uri: string) => Hypervisor,
  log: Log,
): Promise<{ released: string[]; left: string[] }> {
  mustBeOwn(state);
  const released: string[] = [];
  const left: string[] = [];
  for (const job of keptJobs(state)) {
    if (!chosen(job)) continue;
    const { record, jobId } = job;
    const paths = jobPaths(state, jobId);
    const release = await claimJob(state, jobId, 0);
    if (release === undefined) {
      left.push(`${jobId}: another process is removing it`);
      continue;
    }
    let failures: UndoFailure[];
    try {
      failures = await undo({ state, paths, record, hypervisor: openHypervisor(record.uri) });
    } finally {
      release();
    }
    if (failures.length === 0) released.push(jobId);
    for (const { step, error } of failures) left.push(`${jobId}: ${step}: ${error.message}`);
    log.write(failures.length === 0 ? 'info' : 'error', `the guest kept of job ${jobId} is released`, {
      left: failures.length,
    });
  }
  return { released, left };
}
