// The MAC address of a job's guest.
import { createHash } from 'node:crypto';
import { VmbatchError } from '../../util/errors.ts';
import { releaseLease, takeLease } from './lease.ts';

/** A locally administered unicast address that follows from the job, so that a retry has the same.
 * @param attempt another number gives another address: for when somebody else has the first */
export function macAddress(jobId: string, attempt = 0): string {
  const text = attempt === 0 ? jobId : `${jobId} ${attempt}`;
  const bytes = createHash('sha256').update(text).digest().subarray(0, 4);
  return ['52', '54', ...[...bytes].map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}

/** Of four billion addresses, this many jobs would have to have the same ones. */
const MAX_ATTEMPTS = 16;

/** Leases the job's MAC address, so that it is never twice on one network: all nodes of a network use one
 * directory.
 * @param onCandidate told each address before its lock file is made
 * @throws VmbatchError `node` (`mac-exhausted`) */
export function leaseMac(directory: string, jobId: string, onCandidate: (mac: string) => void): string {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const mac = macAddress(jobId, attempt);
    onCandidate(mac);
    if (takeLease(directory, leaseName(mac), jobId)) return mac;
  }
  throw new VmbatchError({
    fault: 'node',
    code: 'mac-exhausted',
    message: `all of ${MAX_ATTEMPTS} MAC addresses for job ${jobId} belong to other jobs`,
    hint: `are there locks of jobs that are long gone in ${directory}?`,
    jobId,
  });
}

/** Gives the address back if it is this job's. */
export function releaseMac(directory: string, jobId: string, mac: string): void {
  releaseLease(directory, leaseName(mac), jobId);
}

function leaseName(mac: string): string {
  return `mac-${mac.replaceAll(':', '-')}`;
}
