// Deleting a batch job.
import { commandPath, type Torque } from './commands.ts';
import { torqueError, torqueFailure } from './errors.ts';

/** `requested`: TORQUE took the request; `unknown`: it has no such job (any more); `ended`: the job is
 * complete. */
export type QdelOutcome = 'requested' | 'unknown' | 'ended';

/** @param jobId with the server's name: a bare number would get the client's default server
 * @param timeoutMs milliseconds; a qdel of a job in its prologue takes some seconds
 * @throws TorqueError for everything that leaves the job where it was */
export async function qdel(torque: Torque, jobId: string, timeoutMs = 5 * 60_000): Promise<QdelOutcome> {
  const result = await torque.run(commandPath(torque, 'qdel'), [jobId], { timeoutMs, viaFiles: true });
  if (result.exitCode === 0) return 'requested';
  const code = torqueFailure(result)?.code;
  if (code === 'job-unknown') return 'unknown';
  if (code === 'job-state') return 'ended';
  throw torqueError('qdel', result, `job ${jobId}`);
}
