// The MAC address of a job's guest.
import { createHash } from 'node:crypto';

/** A locally administered unicast address that follows from the job, so that a retry has the same.
 * @param attempt another number gives another address: for when somebody else has the first */
export function macAddress(jobId: string, attempt = 0): string {
  const text = attempt === 0 ? jobId : `${jobId} ${attempt}`;
  const bytes = createHash('sha256').update(text).digest().subarray(0, 4);
  return ['52', '54', ...[...bytes].map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}
