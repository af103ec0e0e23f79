// A-REX's preprocessed configuration (the file after --config): INI blocks, and the few options we read, typed.
import { readFileSync } from 'node:fs';
import { errnoOf, VmbatchError } from '../util/errors.ts';
import { decodeBytes, showBytes } from './text.ts';

/** One `key=value` line; the value is a byte string (latin1). */
interface Option {
  value: string;
  line: number;
}

interface Block {
  line: number;
  /** Repeated keys keep every value, in order. */
  options: Map<string, Option[]>;
}

/** What vmbatch takes from a CE's configuration. Paths are text. */
export interface ArcConfiguration {
  /** The file, for error messages. */
  file: string;
  /** Second word of `[lrms] lrms = vmbatch QUEUE`; undefined if there is none. */
  defaultQueue: string | undefined;
  /** `[lrms] pbs_bin_path`; undefined: the programs are looked up in PATH. */
  pbsBinPath: string | undefined;
  /** `[lrms] pbs_log_path`: directory of the server logs. */
  pbsLogPath: string | undefined;
  /** `[arex] controldir`. */
  controlDirectory: string | undefined;
  /** `[lrms] gnu_time`: GNU time in the guest. Default `/usr/bin/time`. */
  gnuTime: string;
  /** `[custom:vmbatch] image`: the image that the guest request names; undefined: the node's default. */
  image: string | undefined;
  /** Names of the `[queue:NAME]` blocks. */
  queues: string[];
  /** `benchmark` of the queue, else of `[lrms]`, as `.diag` wants it (`HEPSPEC:1.0`, the default). */
  benchmark: (queue: string | undefined) => string;
}

/** Options of `[custom:vmbatch]`: what is allowed, and what a value must look like. */
const CUSTOM_OPTIONS: Readonly<Record<string, { pattern: RegExp; allowed: string }>> = {
  image: {
    pattern: /^[a-z0-9][a-z0-9._-]{0,63}$/,
    allowed: 'a name of an image: [a-z0-9._-], at most 64, the first a letter or digit',
  },
};

const QUEUE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/** What happens to a problem in the file: an exception, or a line in a log. */
type Report = (problem: VmbatchError) => void;

const raise: Report = (problem) => {
  throw problem;
};

/** Reads and checks the file that A-REX names with `--config`.
 * @throws VmbatchError `site`, naming file, line, key, found value and what is allowed. */
export function loadArcConfiguration(file: string): ArcConfiguration {
  return parseArcConfiguration(readConfiguration(file), file);
}

/** The same for commands that look after jobs which are there already: a mistake in an option must not keep them from
 * it, so what is wrong is left out.
 * @param log gets one line for each problem
 * @throws VmbatchError `site` only if the file cannot be read */
export function loadArcConfigurationLeniently(file: string, log: (line: string) => void): ArcConfiguration {
  return parseArcConfiguration(readConfiguration(file), file, ({ message }) => log(`ignored: ${message}`));
}

function readConfiguration(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch (error) {
    throw new VmbatchError({
      fault: 'site',
      code: 'configuration-unreadable',
      message: `${file}: the configuration cannot be read (${errnoOf(error) ?? 'unknown error'})`,
      hint: 'A-REX passes it as --config CONF: its preprocessed file, such as /run/arched-arex.cfg',
      cause: error,
    });
  }
}

/** @param text the file's bytes as latin1
 * @param report told of each problem; if it returns, the option is taken as not given
 * @throws VmbatchError as `loadArcConfiguration`, unless `report` does otherwise */
export function parseArcConfiguration(text: string, file: string, report = raise): ArcConfiguration {
  const blocks = parseBlocks(text, file, report);
  const one = (block: string, key: string): Option | undefined => {
    const option = blocks.get(block)?.options.get(key)?.at(-1);
    return option === undefined || option.value === '' ? undefined : option;
  };
  const path = (block: string, key: string): string | undefined => {
    const option = one(block, key);
    if (option === undefined) return undefined;
    if (option.value.startsWith('/')) return decodeBytes(option.value);
    report(refuse(file, option.line, `[${block}] ${key}`, option.value, 'an absolute path'));
    return undefined;
  };

  const shared = one('arex', 'shared_filesystem');
  if (shared !== undefined && shared.value !== 'yes')
    report(
      refuse(
        file,
        shared.line,
        '[arex] shared_filesystem',
        shared.value,
        '"yes" (session directories are shared)',
      ),
    );

  return {
    file,
    defaultQueue: defaultQueue(one('lrms', 'lrms'), file, report),
    pbsBinPath: path('lrms', 'pbs_bin_path'),
    pbsLogPath: path('lrms', 'pbs_log_path'),
    controlDirectory: path('arex', 'controldir'),
    gnuTime: path('lrms', 'gnu_time') ?? '/usr/bin/time',
    image: customOptions(blocks, file, report).get('image'),
    queues: [...blocks.keys()].filter((block) => block.startsWith('queue:')).map((block) => block.slice(6)),
    benchmark: (of) => {
      const option =
        (of === undefined ? undefined : blocks.get(`queue:${of}`)?.options.get('benchmark')?.[0]) ??
        blocks.get('lrms')?.options.get('benchmark')?.[0];
      return option === undefined || option.value === ''
        ? 'HEPSPEC:1.0'
        : option.value.replaceAll(/[ \t]+/g, ':');
    },
  };
}

function defaultQueue(lrms: Option | undefined, file: string, report: Report): string | undefined {
  if (lrms === undefined) {
    report(
      new VmbatchError({
        fault: 'site',
        code: 'configuration-invalid',
        message: `${file}: [lrms] lrms is missing; it must be "vmbatch QUEUE"`,
      }),
    );
    return undefined;
  }
  const [name, queue, ...rest] = lrms.value.split(/[ \t]+/);
  if (name === 'vmbatch' && rest.length === 0 && (queue === undefined || QUEUE_NAME.test(queue)))
    return queue;
  report(refuse(file, lrms.line, '[lrms] lrms', lrms.value, '"vmbatch QUEUE"'));
  return undefined;
}

function customOptions(blocks: Map<string, Block>, file: string, report: Report): Map<string, string> {
  const values = new Map<string, string>();
  for (const [key, options] of blocks.get('custom:vmbatch')?.options ?? []) {
    const [first, second] = options;
    if (first === undefined) continue;
    const schema = Object.hasOwn(CUSTOM_OPTIONS, key) ? CUSTOM_OPTIONS[key] : undefined;
    const name = `[custom:vmbatch] ${key}`;
    if (schema === undefined)
      report(
        new VmbatchError({
          fault: 'site',
          code: 'configuration-invalid',
          message: `${file}:${first.line}: [custom:vmbatch] has no option ${showBytes(key)}; it has: ${Object.keys(CUSTOM_OPTIONS).join(', ')}`,
        }),
      );
    else if (second !== undefined)
      report(refuse(file, second.line, name, second.value, `given once (also in line ${first.line})`));
    else if (!schema.pattern.test(first.value))
      report(refuse(file, first.line, name, first.value, schema.allowed));
    else values.set(key, first.value);
  }
  return values;
}

const refuse = (file: string, line: number, key: string, found: string, allowed: string) =>
  new VmbatchError({
    fault: 'site',
    code: 'configuration-invalid',
    message: `${file}:${line}: ${key}: found ${showBytes(found)}, must be ${allowed}`,
  });

/** Blocks by name without brackets; a block that comes twice is merged, as ARC does. */
function parseBlocks(text: string, file: string, report: Report): Map<string, Block> {
  const blocks = new Map<string, Block>();
  let block: Block | undefined;
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const header = /^\[\s*([^[\]]+?)\s*\]$/.exec(line)?.[1];
    if (header !== undefined) {
      const name = header.replaceAll(/\s*:\s*/g, ':');
      block = blocks.get(name) ?? { line: index + 1, options: new Map() };
      blocks.set(name, block);
      continue;
    }
    const equals = line.indexOf('=');
    const key = line.slice(0, equals).trim();
    if (equals < 1 || /\s/.test(key)) {
      report(refuse(file, index + 1, 'line', line, '"[block]" or "key = value"'));
      continue;
    }
    if (block === undefined) {
      report(refuse(file, index + 1, 'line', line, 'below a "[block]" line'));
      continue;
    }
    const option = { value: unquote(line.slice(equals + 1).trim()), line: index + 1 };
    const earlier = block.options.get(key);
    if (earlier === undefined) block.options.set(key, [option]);
    else earlier.push(option);
  }
  return blocks;
}

/** ARC allows one pair of quotes around a whole value. */
function unquote(value: string): string {
  const quote = value[0];
  const quoted = (quote === '"' || quote === "'") && value.length > 1 && value.endsWith(quote);
  return quoted ? value.slice(1, -1) : value;
}
