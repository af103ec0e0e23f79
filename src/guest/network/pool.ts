// Static addresses: a pool of them in the node file, each leased by one guest at a time.
import { createHash } from 'node:crypto';
import type { PoolEntry } from '../../node-file/config.ts';
import { VmbatchError } from '../../util/errors.ts';
import { readLease, releaseLease, takeLease } from './lease.ts';

const SHOWN_HOLDERS = 8;

/** Leases an entry that no other job has. Each job begins to look at a place of its own, so that those which
 * start at once are not in each other's way; and a job that is started again has the same address if it is
 * still free.
 * @param onCandidate told each address before its lock file is made
 * @throws VmbatchError `node` (`pool-exhausted`) saying who has them */
export function leasePoolEntry(
  directory: string,
  pool: readonly PoolEntry[],
  jobId: string,
  onCandidate: (entry: PoolEntry) => void,
): PoolEntry {
  const start = createHash('sha256').update(jobId).digest().readUInt32BE(0);
  const holders: string[] = [];
  for (let step = 0; step < pool.length; step++) {
    const entry = pool[(start + step) % pool.length];
    if (entry === undefined) continue;
    const holder = readLease(directory, leaseName(entry.address));
    if (holder === undefined || holder.jobId === jobId) {
      onCandidate(entry);
      if (takeLease(directory, leaseName(entry.address), jobId)) return entry;
    }
    holders.push(`${entry.address} (${holder?.jobId ?? 'taken just now'})`);
  }
  const more = holders.length > SHOWN_HOLDERS ? ` and ${holders.length - SHOWN_HOLDERS} more` : '';
  throw new VmbatchError({
    fault: 'node',
    code: 'pool-exhausted',
    message: `all ${pool.length} addresses of network.pool are taken: ${holders.slice(0, SHOWN_HOLDERS).join(', ')}${more}`,
    hint: `give the pool as many addresses as there are guests at once; the locks are in ${directory}`,
    jobId,
  });
}

/** Gives the address back if it is this job's. */
export function releasePoolEntry(directory: string, jobId: string, address: string): void {
  releaseLease(directory, leaseName(address), jobId);
}

function leaseName(address: string): string {
  return `address-${address}`;
}
