// Submitting a batch script. It goes in through stdin as a whole file without a name: nothing is left behind
// however we end, and qsub never takes the first half of a script for all of it.
import { withUnlinkedFile } from '../../util/files/unlinked-file.ts';
import { commandPath, type Torque } from './commands.ts';
import { TorqueError, torqueError, torqueFailure } from './errors.ts';
import { isJobId } from './job-id.ts';

/** A server that hangs answers only after minutes. Longer than that, and the last attempt of a submission
 * would not end within the hour that A-REX gives it. */
const QSUB_TIMEOUT_MS = 5 * 60_000;

/** The variable by which a batch job is found again whose id did not arrive. */
const SUBMISSION_VARIABLE = 'VMBATCH_SUBMISSION';

/** `NAME=TOKEN`: in the arguments of the qsub that submits the job, in the job's `Variable_List` and its
 * environment.
 * @param token letters and digits only, since TORQUE has no quoting there */
export function submissionVariable(token: string): string {
  return `${SUBMISSION_VARIABLE}=${token}`;
}

/** qsub failed, and the batch job may be there all the same. `passing`: if it is not, the same call may
 * succeed later. */
export class UnclearSubmission extends TorqueError {}

/** Runs qsub in `directory` (it becomes PBS_O_WORKDIR) with the script on its stdin.
 * @param subject for error messages: `queue main`
 * @returns the job id, such as `112.vm`
 * @throws UnclearSubmission if qsub was cut short, or answered with what is neither a job id nor a refusal
 * that we know
 * @throws TorqueError with the fault and code of the table in errors.ts: then there is no batch job */
export async function qsub(
  torque: Torque,
  script: Uint8Array,
  { directory, subject, token }: { directory: string; subject: string; token: string },
): Promise<string> {
  const result = await withUnlinkedFile(script, (stdinFd) =>
    torque.run(commandPath(torque, 'qsub'), ['-v', submissionVariable(token)], {
      stdinFd,
      cwd: directory,
      timeoutMs: QSUB_TIMEOUT_MS,
      viaFiles: true,
    }),
  );
  if (result.exitCode !== 0) {
    const error = torqueError('qsub', result, subject);
    // 1 is what qsub says of all that is not an answer of the server's.
    const clear = torqueFailure(result) !== undefined && result.exitCode !== 1 && !result.timedOut;
    if (result.notFound || clear) throw error;
    const { fault, code, message, hint } = error;
    const passing = error.passing || result.signal !== undefined;
    throw new UnclearSubmission({ fault, code, message, hint, passing });
  }
  const jobId = result.stdout.trim();
  if (!isJobId(jobId))
    throw new UnclearSubmission({
      fault: 'site',
      code: 'qsub-answer',
      message: `qsub for ${subject}: found ${JSON.stringify(jobId.slice(0, 80))} on stdout, must be a job id such as 112.server`,
      hint: 'look whether something around qsub prints more than the id',
      passing: false,
    });
  return jobId;
}
