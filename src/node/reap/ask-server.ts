// What the batch server says of a job, where the mom itself cannot be asked.

import { streamJobs } from '../../batch/torque/answers/qstat.ts';
import { isJobId } from '../../batch/torque/job-id.ts';
import { torqueOnNode } from '../../batch/torque/node-commands.ts';
import type { AskServer } from './liveness.ts';

/** States in which a job may have something on a node: exiting, running, suspended, in transit. */
const ON_A_NODE = /^[ERST]$/;

/** By `qstat`, which a node need not have. Undefined where the server does not answer for certain.
 * @param binPath `guard.pbs_bin_path` of the node file */
export function askServerByQstat(
  binPath: string | undefined,
  torque = torqueOnNode('qstat', binPath),
): AskServer {
  return async (jobId) => {
    if (!isJobId(jobId)) return undefined;
    let state: string | undefined;
    try {
      const unknown = await streamJobs(torque, {
        ids: [jobId],
        onJob: (job) => {
          if (job.id === jobId) state = job.state;
        },
      });
      if (state === undefined) return unknown.has(jobId) ? 'gone' : undefined;
    } catch {
      return undefined;
    }
    return ON_A_NODE.test(state) ? 'running' : 'gone';
  };
}
