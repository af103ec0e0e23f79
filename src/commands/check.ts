// vmbatch check ce: says what is wrong with the set-up of a CE, and changes nothing.
import { realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import picocolors from 'picocolors';
import type { CheckResult, CheckState } from '../ce/check.ts';
import { checkCe } from '../ce/check-ce.ts';
import { FAULT_OUTCOMES, VmbatchError } from '../util/errors.ts';

declare const VMBATCH_VERSION: string;

const HELP = `usage: vmbatch check ce [--config FILE] [--json]

Looks at the set-up of this CE: arc.conf, the links in ARC's data directory, TORQUE, directories. Takes seconds,
changes nothing. As root it sees everything; else it says what it could not see.

  --config FILE   arc.conf, or the file that A-REX makes of it. Default: $ARC_CONFIG, else /etc/arc.conf
  --json          one JSON object, for programs

Exit codes: 0 nothing has failed (there may be warnings), ${FAULT_OUTCOMES.site.commandExit} something has.
`;

export async function main(argv: string[]): Promise<number> {
  const { file, json, help } = parse(argv);
  if (help) {
    process.stdout.write(HELP);
    return 0;
  }
  const version = typeof VMBATCH_VERSION === 'string' ? VMBATCH_VERSION : 'development';
  const results = await checkCe({
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
  return isOk ? 0 : FAULT_OUTCOMES.site.commandExit;
}

function parse(argv: string[]): { file: string; json: boolean; help: boolean } {
  const refuse = (message: string) =>
    new VmbatchError({ fault: 'site', code: 'usage', message, hint: 'see vmbatch check --help' });
  let parsed: { values: { config?: string; json?: boolean; help?: boolean }; positionals: string[] };
  try {
    parsed = parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        config: { type: 'string' },
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw refuse(error instanceof Error ? error.message : String(error));
  }
  const { values, positionals } = parsed;
  const help = values.help ?? false;
  if (!help && positionals.join(' ') !== 'ce')
    throw refuse(`vmbatch check: found ${JSON.stringify(positionals.join(' '))}, must be "ce"`);
  return {
    file: values.config ?? (process.env['ARC_CONFIG'] || '/etc/arc.conf'),
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
