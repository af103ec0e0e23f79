// A-REX's preprocessed configuration as blocks of options with their lines; what they mean is said elsewhere.
import { VmbatchError } from '../util/errors.ts';
import { showBytes } from './text.ts';

/** One `key=value` line; the value is a byte string (latin1). */
export interface Option {
  value: string;
  /** From 1. */
  line: number;
}

/** The options of a block by key; repeated keys keep every value, in order. */
export type Block = ReadonlyMap<string, readonly Option[]>;

/** What happens to a problem in the file: an exception, or a line in a log. If it returns, the option counts
 * as not given. */
export type Report = (problem: VmbatchError) => void;

/** Blocks by name without brackets (`lrms`, `queue:NAME`); a block that comes twice is merged, as ARC does.
 * @param text the file's bytes as latin1
 * @param report told of each line that is neither a block, an option nor a remark */
export function parseBlocks(text: string, file: string, report: Report): ReadonlyMap<string, Block> {
  const blocks = new Map<string, Map<string, Option[]>>();
  let block: Map<string, Option[]> | undefined;
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const header = /^\[\s*([^[\]]+?)\s*\]$/.exec(line)?.[1];
    if (header !== undefined) {
      const name = header.replaceAll(/\s*:\s*/g, ':');
      block = blocks.get(name) ?? new Map();
      blocks.set(name, block);
      continue;
    }
    const equals = line.indexOf('=');
    const key = line.slice(0, equals).trim();
    if (equals < 1 || /\s/.test(key)) {
      report(refuseOption(file, index + 1, 'line', line, '"[block]" or "key = value"'));
      continue;
    }
    if (block === undefined) {
      report(refuseOption(file, index + 1, 'line', line, 'below a "[block]" line'));
      continue;
    }
    const option = { value: unquote(line.slice(equals + 1).trim()), line: index + 1 };
    const earlier = block.get(key);
    if (earlier === undefined) block.set(key, [option]);
    else earlier.push(option);
  }
  return blocks;
}

/** The error for a value that cannot be: file, line, key, what was found and what is allowed. */
export const refuseOption = (file: string, line: number, key: string, found: string, allowed: string) =>
  new VmbatchError({
    fault: 'site',
    code: 'configuration-invalid',
    message: `${file}:${line}: ${key}: found ${showBytes(found)}, must be ${allowed}`,
  });

/** ARC allows one pair of quotes around a whole value. */
function unquote(value: string): string {
  const quote = value[0];
  const quoted = (quote === '"' || quote === "'") && value.length > 1 && value.endsWith(quote);
  return quoted ? value.slice(1, -1) : value;
}
