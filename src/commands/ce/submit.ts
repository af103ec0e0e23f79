// vmbatch submit: A-REX calls it as `submit-vmbatch-job --config CONF GRAMI`, as the mapped user.
import { loadArcConfiguration } from '../../arc/configuration/configuration.ts';
import { type Grami, loadGramiAndValues } from '../../arc/grami.ts';
import { torqueAt } from '../../batch/torque/commands.ts';
import { parseBackendArguments } from '../../ce/arguments.ts';
import { isRefusal, refuseJob } from '../../ce/submit/refusal.ts';
import { type Submission, submit } from '../../ce/submit/submit.ts';
import { formatError, toVmbatchError } from '../../util/errors.ts';
import { writeStderr } from '../../util/program/stderr.ts';

const USAGE = 'vmbatch submit --config CONF GRAMI';

const SAID: Readonly<Record<Submission['how'], string>> = {
  submitted: 'submitted',
  adopted: 'was submitted by the earlier attempt',
  before: 'was submitted before',
};

/** Takes what the job's log gets. */
type Log = (text: Uint8Array | string) => void;

/** What is written to stderr lands in the job's log. Exit code 0 means that the job has an id, also if it is
 * one that says that it was refused. */
export async function main(argv: string[], log: Log = writeStderr): Promise<number> {
  const { config, operands, help } = parseBackendArguments(argv, USAGE, { least: 1, most: 1 });
  if (help) {
    process.stdout.write(`usage: ${USAGE}\n`);
    return 0;
  }
  const configuration = loadArcConfiguration(config);
  const { grami, values } = loadGramiAndValues(operands[0] ?? '');
  try {
    const torque = torqueAt(configuration.pbsBinPath);
    const { jobId, how } = await submit({ grami, values, configuration, torque, log });
    log(`vmbatch: batch job ${jobId} ${SAID[how]}\n`);
  } catch (thrown) {
    log(`${refuse(grami, thrown, log)}\n`);
  }
  return 0;
}

/** @returns what the job's log gets
 * @throws VmbatchError what was thrown, if the job cannot or must not be ended with it */
function refuse(grami: Grami, thrown: unknown, log: Log): string {
  const error = toVmbatchError(thrown, 'site');
  if (!isRefusal(error)) throw error;
  try {
    const jobId = refuseJob(grami, error);
    return `${formatError(error)}\nvmbatch: no batch job: the job gets the id ${jobId} and will end with this reason`;
  } catch (unwritable) {
    log(`${formatError(toVmbatchError(unwritable, 'site'))}\n`);
    throw error;
  }
}
