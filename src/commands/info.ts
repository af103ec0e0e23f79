// vmbatch info: queue, node and job state as JSON, for VMBATCHmod.pm.
import { loadArcConfigurationLeniently } from '../arc/configuration.ts';
import { parseBackendArguments } from '../ce/arguments.ts';
import { information } from '../ce/info.ts';
import { torqueAt } from '../torque/commands.ts';

const USAGE = 'vmbatch info --config CONF';

/** Writes one JSON document. A batch server that does not answer is no failure: it is named in `problems`. Options
 * that are wrong and do not matter here are in `warnings`; unlike problems, they leave no doubt about what is said. */
export async function main(argv: string[]): Promise<number> {
  const { config, help } = parseBackendArguments(argv, USAGE, { least: 0, most: 0 });
  if (help) {
    process.stdout.write(`usage: ${USAGE}\n`);
    return 0;
  }
  const warnings: string[] = [];
  const { pbsBinPath } = loadArcConfigurationLeniently(config, (line) => warnings.push(line));
  const document = { ...(await information(torqueAt(pbsBinPath))), warnings };
  process.stdout.write(`${JSON.stringify(document)}\n`);
  return 0;
}
