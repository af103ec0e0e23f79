// vmbatch submit: A-REX calls it as `submit-vmbatch-job --config CONF GRAMI`, as the mapped user.
import { loadArcConfiguration } from '../arc/configuration.ts';
import { loadGrami } from '../arc/grami.ts';
import { parseBackendArguments } from '../ce/arguments.ts';
import { submit } from '../ce/submit.ts';
import { torqueAt } from '../torque/commands.ts';

const USAGE = 'vmbatch submit --config CONF GRAMI';

/** What is written to stderr lands in the job's log. */
export async function main(argv: string[]): Promise<number> {
  const { config, operands, help } = parseBackendArguments(argv, USAGE, { least: 1, most: 1 });
  if (help) {
    process.stdout.write(`usage: ${USAGE}\n`);
    return 0;
  }
  const configuration = loadArcConfiguration(config);
  const grami = loadGrami(operands[0] ?? '');
  const { jobId, submitted } = await submit(grami, configuration, torqueAt(configuration.pbsBinPath));
  process.stderr.write(
    submitted
      ? `vmbatch: submitted batch job ${jobId}\n`
      : `vmbatch: batch job ${jobId} was submitted before\n`,
  );
  return 0;
}
