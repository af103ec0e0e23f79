// vmbatch cancel: A-REX calls it as `cancel-vmbatch-job --config CONF GRAMI`, as the mapped user.
import { loadArcConfigurationLeniently } from '../../arc/configuration/configuration.ts';
import { loadJobId } from '../../arc/grami.ts';
import { torqueAt } from '../../batch/torque/commands.ts';
import { parseBackendArguments } from '../../ce/arguments.ts';
import { cancel, cancelFault } from '../../ce/cancel.ts';
import { writeStderr } from '../../util/program/stderr.ts';

const USAGE = 'vmbatch cancel --config CONF GRAMI';

/** What is written to stderr lands in the job's log.
 * @throws VmbatchError `site` if the batch job may still be there
 * @param say takes what the log gets */
export async function main(argv: string[], say: (text: string) => void = writeStderr): Promise<number> {
  const { config, operands, help } = parseBackendArguments(argv, USAGE, { least: 1, most: 1 });
  if (help) {
    process.stdout.write(`usage: ${USAGE}\n`);
    return 0;
  }
  const log = (line: string) => say(`vmbatch: ${line}\n`);
  const { pbsBinPath } = loadArcConfigurationLeniently(config, log);
  try {
    log(await cancel(loadJobId(operands[0] ?? ''), torqueAt(pbsBinPath)));
  } catch (error) {
    throw cancelFault(error);
  }
  return 0;
}
