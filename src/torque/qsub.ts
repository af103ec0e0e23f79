// Submitting a batch script. The script goes in through stdin, so that no file is left behind however we end.
import { VmbatchError } from '../util/errors.ts';
import { commandPath, type Torque } from './commands.ts';
import { torqueError } from './errors.ts';
import { isJobId } from './job-id.ts';

/** A server that hangs answers only after minutes; giving up early would leave a job that nobody knows. */
const QSUB_TIMEOUT_MS = 10 * 60_000;

/** Runs qsub in `directory` (it becomes PBS_O_WORKDIR) with the script on its stdin.
 * @param subject for error messages: `queue main`
 * @returns the job id, such as `112.vm`
 * @throws VmbatchError with the fault and code of the table in errors.ts; `site` for an answer that is no job id */
export async function qsub(
  torque: Torque,
  script: Uint8Array,
  { directory, subject }: { directory: string; subject: string },
): Promise<string> {
  const result = await torque.run(commandPath(torque, 'qsub'), [], {
    input: script,
    cwd: directory,
    timeoutMs: QSUB_TIMEOUT_MS,
  });
  if (result.exitCode !== 0) throw torqueError('qsub', result, subject);
  const jobId = result.stdout.trim();
  if (!isJobId(jobId))
    throw new VmbatchError({
      fault: 'site',
      code: 'qsub-answer',
      message: `qsub for ${subject}: found ${JSON.stringify(jobId.slice(0, 80))} on stdout, must be a job id such as 112.server`,
      hint: 'look with qstat whether the job is there all the same',
    });
  return jobId;
}
