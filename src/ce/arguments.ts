// The arguments that A-REX gives its backends: `--config CONF` and what to work on.
import { parseArgs } from 'node:util';
import { VmbatchError } from '../util/errors.ts';

export interface BackendArguments {
  /** The file after `--config`. */
  config: string;
  /** Grami file or control directories. */
  operands: string[];
  once: boolean;
  help: boolean;
}

/** @param usage one line, for the error and for --help
 * @param least how many operands there must be, and `most` how many there may be
 * @throws VmbatchError `site`, since it is the CE that calls */
export function parseBackendArguments(
  argv: string[],
  usage: string,
  { least, most }: { least: number; most: number },
): BackendArguments {
  const refuse = (why: string, cause?: unknown) =>
    new VmbatchError({ fault: 'site', code: 'usage', message: why, hint: `usage: ${usage}`, cause });
  let parsed: { values: { config?: string; once?: boolean; help?: boolean }; positionals: string[] };
  try {
    parsed = parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        config: { type: 'string' },
        once: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
  } catch (error) {
    throw refuse(error instanceof Error ? error.message : String(error));
  }
  const { values, positionals } = parsed;
  const result = {
    config: values.config ?? '',
    operands: positionals,
    once: values.once ?? false,
    help: values.help ?? false,
  };
  if (result.help) return result;
  if (result.config === '') throw refuse('--config CONF is missing');
  if (positionals.length < least || positionals.length > most)
    throw refuse(`found ${positionals.length} arguments beside --config CONF`);
  return result;
}
