// The arguments that A-REX gives its backends: `--config CONF` and what to work on. By hand: loading
// node:util's parser costs 1 ms at each start.
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
  const refuse = (why: string) =>
    new VmbatchError({ fault: 'site', code: 'usage', message: why, hint: `usage: ${usage}` });
  const result: BackendArguments = { config: '', operands: [], once: false, help: false };
  let optionsEnded = false;
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index] ?? '';
    if (optionsEnded || !word.startsWith('-')) result.operands.push(word);
    else if (word === '--') optionsEnded = true;
    else if (word === '--config') result.config = argv[++index] ?? '';
    else if (word.startsWith('--config=')) result.config = word.slice('--config='.length);
    else if (word === '--once') result.once = true;
    else if (word === '--help' || word === '-h') result.help = true;
    else throw refuse(`Unknown option '${word}'`);
  }
  if (result.help) return result;
  if (result.config === '') throw refuse('--config CONF is missing');
  const { length } = result.operands;
  if (length < least || length > most) throw refuse(`found ${length} arguments beside --config CONF`);
  return result;
}
