// Cancel: deletes the batch job. A-REX asks once; the scan then reports the end.
import type { Torque } from '../torque/commands.ts';
import { qdel } from '../torque/qdel.ts';

/** @param jobId undefined if the job never got as far as TORQUE
 * @returns what happened, for the job's log
 * @throws VmbatchError only if the batch job may still be there: A-REX takes any failure as the end of the job */
export async function cancel(jobId: string | undefined, torque: Torque): Promise<string> {
  if (jobId === undefined) return 'no batch job to delete: the grami file has no joboption_jobid';
  switch (await qdel(torque, jobId)) {
    case 'requested':
      return `batch job ${jobId} is being deleted`;
    case 'unknown':
      return `batch job ${jobId} is not known to TORQUE: nothing to delete`;
    case 'ended':
      return `batch job ${jobId} has ended: nothing to delete`;
  }
}
