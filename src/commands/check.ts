// vmbatch check ce|node: says what is wrong with the set-up of a CE or a worker node, and changes nothing.
import { realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import picocolors from 'picocolors';
import { DEFAULT_NODE_FILE } from '../node/environment.ts';
import type { CheckResult, CheckState } from '../util/check.ts';
import { FAULT_OUTCOMES, VmbatchError } from '../util/errors.ts';
import { run } from '../util/processes/run.ts';

declare const VMBATCH_VERSION: string;

const HELP = `usage: vmbatch check ce [--config FILE] [--json]
       vmbatch check node [--config FILE] [--mom-dir DIR] [--json]

ce: looks at the set-up of this CE: arc.conf, the links in ARC's data directory, TORQUE, directories.
node: looks at the set-up of this worker node: node file, libvirt, images, network, share, the site's scripts and
templates (by making what a guest of each image would get), hooks.
Takes seconds, changes nothing. On a node only root can look; on a CE who is not root is told what could not be seen.

  --config FILE   ce: arc.conf, or the file that A-REX makes of it. Default: $ARC_CONFIG, else /etc/arc.conf
                  node: the node file. Default: ${DEFAULT_NODE_FILE}
  --mom-dir DIR   the mom's mom_priv. Default: that of the mom that runs here
  --json          one JSON object, for programs

Exit codes: 0 nothing has failed (there may be warnings); something has: ${FAULT_OUTCOMES.site.commandExit} on a CE, ${FAULT_OUTCOMES.node.commandExit} on a node.
`;

export async function main(argv: string[]): Promise<number> {
  const { what, file, momDirectory, json, help } = parse(argv);
  if (help) {
    process.stdout.write(HELP);
    return 0;
  }
  const version = typeof VMBATCH_VERSION === 'string' ? VMBATCH_VERSION : 'development';
  const results =
    what === 'node'
      ? await (await import('../node/check/check-node.ts')).checkNode({
          configFile: file,
          momDirectory,
          vmbatch: process.argv[1] ?? 'vmbatch',
          run,
        })
      : await (await import('../ce/check/check-ce.ts')).checkCe({
          file,
          installation: dirname(realpathSync(process.argv[1] ?? '.')),
          version,
          environment: process.env,
        });
  const isOk = results.every(({ state }) => state !== 'failed');
  if (json) process.stdout.write(`${JSON.stringify({ version, configuration: file, ok: isOk, results })}\n`);
  else {
    const { isTTY, columns } = process.stdout;
    const width = isTTY === true ? Math.max(60, Math.min(columns, 120)) : 80;
    process.stdout.write(
      renderChecks(results, { width, colours: isTTY === true && picocolors.isColorSupported }),
    );
  }
  return isOk ? 0 : FAULT_OUTCOMES[what === 'node' ? 'node' : 'site'].commandExit;
}

function parse(argv: string[]): {
  what: 'ce' | 'node';
  file: string;
  momDirectory: string | undefined;
  json: boolean;
  help: boolean;
} {
  const refuse = (message: string) =>
    new VmbatchError({ fault: 'site', code: 'usage', message, hint: 'see vmbatch check --help' });
  let parsed: {
    values: { config?: string; 'mom-dir'?: string; json?: boolean; help?: boolean };
    positionals: string[];
  };
  try {
    parsed = parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        config: { type: 'string' },
        'mom-dir': { type: 'string' },
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw refuse(error instanceof Error ? error.message : String(error));
  }
  const { values, positionals } = parsed;
  const help = values.help ?? false;
  const what = positionals.join(' ');
  if (!help && what !== 'ce' && what !== 'node')
    throw refuse(`vmbatch check: found ${JSON.stringify(what)}, must be "ce" or "node"`);
  const byDefault = what === 'node' ? DEFAULT_NODE_FILE : process.env['ARC_CONFIG'] || '/etc/arc.conf';
  return {
    what: what === 'node' ? 'node' : 'ce',
    file: values.config ?? byDefault,
    momDirectory: values['mom-dir'],
    json: values.json ?? false,
    help,
  };
}

const TITLES: Readonly<Record<CheckState, string>> = {
  ok: 'ok',
  warning: 'warning',
  failed: 'FAILED',
  skipped: 'skipped',
};

/** The results for people: state, check, what was found; what to do stands below it. */
export function renderChecks(
  results: readonly CheckResult[],
  look: { width: number; colours: boolean },
): string {
  const colours = picocolors.createColors(look.colours);
  const paint = { ok: colours.green, warning: colours.yellow, failed: colours.red, skipped: colours.dim };
  const nameWidth = Math.max(...results.map(({ check }) => check.length)) + 2;
  const indent = 9 + nameWidth;
  const lines = results.flatMap(({ state, check, found, advice }) => {
    const [first = '', ...rest] = wrap(found, look.width - indent);
    const advised = advice === undefined ? [] : wrap(`-> ${advice}`, look.width - indent);
    return [
      `${paint[state](TITLES[state].padEnd(9))}${check.padEnd(nameWidth)}${first}`,
      ...rest.map((line) => ' '.repeat(indent) + line),
      ...advised.map((line) => ' '.repeat(indent) + colours.bold(line)),
    ];
  });
  const count = (state: CheckState) => results.filter((result) => result.state === state).length;
  const left = count('skipped') === 0 ? '' : `, ${count('skipped')} could not be looked at`;
  const summary =
    count('failed') > 0
      ? colours.red(`${count('failed')} failed, ${count('warning')} warnings${left}`)
      : colours.green(`nothing failed, ${count('warning')} warnings${left}`);
  return `${lines.join('\n')}\n\n${summary}\n`;
}

/** Broken at blanks only: a path that is too long stays whole. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
