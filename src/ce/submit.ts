// Submit: a grami file becomes a batch job, and its id goes back into the grami file.
import { statSync } from 'node:fs';
import { buildBatchScript } from '../arc/batch-script.ts';
import type { ArcConfiguration } from '../arc/configuration.ts';
import { appendJobId, type Grami } from '../arc/grami.ts';
import { decodeBytes } from '../arc/text.ts';
import type { Torque } from '../torque/commands.ts';
import { qdel } from '../torque/qdel.ts';
import { qsub } from '../torque/qsub.ts';
import { errnoOf, VmbatchError } from '../util/errors.ts';

/** What became of a submission. */
export interface Submission {
  jobId: string;
  /** False if the grami file had a job id already: A-REX called a second time. */
  submitted: boolean;
}

/** Submits the job of `grami` as the user we run as, in its session directory.
 * @throws VmbatchError; then there is no batch job, except where the message says so */
export async function submit(
  grami: Grami,
  configuration: ArcConfiguration,
  torque: Torque,
): Promise<Submission> {
  if (grami.jobId !== undefined) return { jobId: grami.jobId, submitted: false };
  const [runtime] = grami.runtimes;
  if (runtime !== undefined)
    throw new VmbatchError({
      fault: 'job',
      code: 'runtime-environment-missing',
      message: `${grami.file}: the runtime environment ${decodeBytes(runtime.name)} is not available here`,
      hint: 'this version serves jobs without runtime environments only',
    });
  const directory = decodeBytes(grami.sessionDirectory);
  requireDirectory(directory);
  const script = Buffer.from(buildBatchScript(grami, configuration), 'latin1');
  const queue = grami.queue ?? configuration.defaultQueue;
  const jobId = await qsub(torque, script, {
    directory,
    subject: `grid job ${grami.gridId}${queue === undefined ? '' : ` in queue ${queue}`}`,
  });
  try {
    appendJobId(grami.file, jobId);
  } catch (error) {
    throw await takeBack(torque, jobId, error);
  }
  return { jobId, submitted: true };
}

/** A-REX would never ask for a batch job whose id it did not get, so it must not stay. */
async function takeBack(torque: Torque, jobId: string, error: unknown): Promise<unknown> {
  try {
    await qdel(torque, jobId);
    return error;
  } catch (qdelError) {
    return new VmbatchError({
      fault: 'site',
      code: 'batch-job-left',
      message: `batch job ${jobId} was submitted, could not be reported to A-REX and not be deleted either`,
      hint: `qdel ${jobId}`,
      cause: new Error(error instanceof Error ? error.message : String(error), { cause: qdelError }),
    });
  }
}

function requireDirectory(path: string): void {
  let why = 'is not a directory';
  try {
    if (statSync(path).isDirectory()) return;
  } catch (error) {
    why = `cannot be looked at (${errnoOf(error) ?? 'unknown error'})`;
  }
  throw new VmbatchError({
    fault: 'site',
    code: 'session-directory-missing',
    message: `the session directory ${path} ${why}`,
  });
}
