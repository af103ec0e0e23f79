// vmbatch info: queue, node and job state as JSON, for VMBATCHmod.pm.
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { loadArcConfigurationLeniently } from '../../arc/configuration/configuration.ts';
import { torqueAt } from '../../batch/torque/commands.ts';
import { information } from '../../ce/info/info.ts';
import { parseInformationRequest } from '../../ce/info/request.ts';
import { VmbatchError } from '../../util/errors.ts';
import { jsonWithoutForbidden } from '../../util/xml-characters.ts';

const USAGE = 'vmbatch info --config CONF [--request]';

/** Writes one JSON document, of characters that may be published in XML. With `--request`, what is wanted is
 * read from stdin as JSON, so that the ids of ten thousand jobs are no arguments. A batch server that does
 * not answer is no failure: it is named in `problems`. Options that are wrong and do not matter here are in
 * `warnings`; unlike problems, they leave no doubt about what is said.
 * @throws VmbatchError `site` for wrong arguments, a request that cannot be read, or no configuration file */
export async function main(argv: string[]): Promise<number> {
  const { config, request, help } = parseArguments(argv);
  if (help) {
    process.stdout.write(`usage: ${USAGE}\n`);
    return 0;
  }
  const warnings: string[] = [];
  const site = loadArcConfigurationLeniently(config, (line) => warnings.push(line));
  const asked = request ? parseInformationRequest(readFileSync(0, 'utf8')) : undefined;
  const document = await information(torqueAt(site.pbsBinPath), site, asked);
  document.warnings.unshift(...warnings);
  process.stdout.write(`${jsonWithoutForbidden(JSON.stringify(document))}\n`);
  return 0;
}

function parseArguments(argv: string[]): { config: string; request: boolean; help: boolean } {
  const refuse = (message: string, cause?: unknown) =>
    new VmbatchError({ fault: 'site', code: 'usage', message, hint: `usage: ${USAGE}`, cause });
  let values: { config?: string; request?: boolean; help?: boolean };
  try {
    ({ values } = parseArgs({
      args: argv,
      options: {
        config: { type: 'string' },
        request: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    }));
  } catch (error) {
    throw refuse(error instanceof Error ? error.message : String(error));
  }
  const { config = '', request = false, help = false } = values;
  if (config === '' && !help) throw refuse('--config CONF is missing');
  return { config, request, help };
}
