// vmbatch cancel: A-REX calls it as `cancel-vmbatch-job --config CONF GRAMI`, as the mapped user.
import { loadArcConfigurationLeniently } from '../arc/configuration.ts';
import { loadJobId } from '../arc/grami.ts';
import { parseBackendArguments } from '../ce/arguments.ts';
import { cancel } from '../ce/cancel.ts';
import { torqueAt } from '../torque/commands.ts';

const USAGE = 'vmbatch cancel --config CONF GRAMI';

/** What is written to stderr lands in the job's log. */
export async function main(argv: string[]): Promise<number> {
  const { config, operands, help } = parseBackendArguments(argv, USAGE, { least: 1, most: 1 });
  if (help) {
    process.stdout.write(`usage: ${USAGE}\n`);
    return 0;
  }
  const log = (line: string) => process.stderr.write(`vmbatch: ${line}\n`);
  const { pbsBinPath } = loadArcConfigurationLeniently(config, log);
  log(await cancel(loadJobId(operands[0] ?? ''), torqueAt(pbsBinPath)));
  return 0;
}
