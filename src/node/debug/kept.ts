// Guests of failed jobs that are kept for a while, so that somebody can look into them. The record says until when; a process
// that sleeps until then, or whoever comes by later, removes them as an epilogue would have.
import { closeSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Hypervisor } from '../../hypervisor/port.ts';
import type { Log } from '../../util/log.ts';
import { type JobRecord, jobPaths, readRecord } from '../record.ts';
import { undo } from '../undo.ts';

/** How TORQUE says that a user ended his own job: 256 and SIGTERM or SIGKILL. Nobody needs to look into that. */
const DELETED: readonly number[] = [271, 265];

/** Whether a job's end is one that somebody may want to look into. */
export function hasFailed(exitStatus: number, fault: string | undefined): boolean {
  return fault !== undefined || (exitStatus !== 0 && !DELETED.includes(exitStatus));
}

/** A shell that sleeps costs a hundredth of a Node that does. */
const KEEPER = 'sleep "$1"; shift; exec "$@"';

export interface KeeperProgram {
  node: string;
  vmbatch: string;
}

/** Starts the process that releases the guest when its time is over. It outlives us and holds nothing of ours. */
export async function startKeeper(
  state: string,
  jobId: string,
  seconds: number,
  { node, vmbatch }: KeeperProgram,
): Promise<void> {
  closeInherited();
  const { execa } = await import('execa');
  const words = [String(seconds), node, vmbatch, 'release', '--state', state, jobId];
  const keeper = execa('/bin/sh', ['-c', KEEPER, 'vmbatch-keeper', ...words], {
    detached: true,
    stdio: 'ignore',
    cleanup: false,
    reject: false,
    cwd: '/',
  });
  keeper.unref();
}

/** The mom's pipes, which it hands to its hooks without wanting to: whoever is started in the background must not keep them
 * open. Node's own descriptors are all closed on exec, which tells them apart. */
function closeInherited(): void {
  const CLOSE_ON_EXEC = 0o2000000;
  for (const entry of readdirSync('/proc/self/fd')) {
    const fd = Number(entry);
    if (!(fd > 2)) continue;
    try {
      const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
      if (flags !== undefined && (Number.parseInt(flags, 8) & CLOSE_ON_EXEC) === 0) closeSync(fd);
    } catch {
      // the one that read the directory
    }
  }
}

/** Jobs whose guests are kept on this node, with the time (ms since 1970) until which. Broken records are left alone. */
export function keptJobs(state: string): { jobId: string; until: number; record: JobRecord }[] {
  let names: string[];
  try {
    names = readdirSync(join(state, 'jobs'));
  } catch {
    return [];
  }
  return names.flatMap((jobId) => {
    try {
      const record = readRecord(jobPaths(state, jobId));
      return record?.keptUntil === undefined ? [] : [{ jobId, until: record.keptUntil, record }];
    } catch {
      return [];
    }
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
  const released: string[] = [];
  const left: string[] = [];
  for (const job of keptJobs(state)) {
    if (!chosen(job)) continue;
    const { record, jobId } = job;
    const paths = jobPaths(state, jobId);
    const failures = await undo({ state, paths, record, hypervisor: openHypervisor(record.uri) });
    if (failures.length === 0) released.push(jobId);
    for (const { step, error } of failures) left.push(`${jobId}: ${step}: ${error.message}`);
    log.write(failures.length === 0 ? 'info' : 'error', `the guest kept of job ${jobId} is released`, {
      left: failures.length,
    });
  }
  return { released, left };
}
