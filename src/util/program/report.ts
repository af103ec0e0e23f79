// A stack trace in terms of the TypeScript sources. Done by hand when there is something to report, since
// Node's own switch for it reads every source map at every start.
import { readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import { dirname, join } from 'node:path';
import { FAULT_OUTCOMES, formatError, toVmbatchError, USAGE_EXIT, type VmbatchError } from '../errors.ts';

export { requireRoot } from '../accounts/root.ts';

/** What the reader of an error sees; a bug comes with its stack. */
export function reportError(error: VmbatchError): string {
  const said = formatError(error);
  return error.fault === 'bug' && error.stack !== undefined ? `${said}\n${mapStack(error.stack)}` : said;
}

/** Tells whoever gave a command why it failed.
 * @param machine whose fault a failed system call is
 * @returns the command's exit code */
export function explain(thrown: unknown, machine: 'node' | 'site'): number {
  // commander has said what is wrong, or has printed the help that was asked for.
  if (isOfCommander(thrown)) return thrown.exitCode === 0 ? 0 : USAGE_EXIT;
  const error = toVmbatchError(thrown, machine);
  process.stderr.write(`${reportError(error)}\n`);
  return error.code === 'usage' ? USAGE_EXIT : FAULT_OUTCOMES[error.fault].commandExit;
}

/** By its code: the name of its class does not outlive the bundling. */
function isOfCommander(thrown: unknown): thrown is Error & { exitCode: unknown } {
  return (
    thrown instanceof Error &&
    'code' in thrown &&
    'exitCode' in thrown &&
    typeof thrown.code === 'string' &&
    thrown.code.startsWith('commander.')
  );
}

/** What nobody catches, and an end that nobody decided on, must not become an exit code that means something
 * else to the mom: Node's own would be 1 and 0. */
export function exitUnlessDecided(code: number): void {
  process.exitCode = code;
  process.on('uncaughtException', (thrown) => {
    process.stderr.write(`${reportError(toVmbatchError(thrown, 'node'))}\n`);
    process.exit(code);
  });
}

const FRAME = /\(?((?:file:\/\/)?\/[^():]+):(\d+):(\d+)\)?$/;

/** Replaces each `FILE:LINE:COLUMN` whose file has a `.map` beside it; leaves all else as it is. */
function mapStack(stack: string): string {
  const maps = new Map<string, SourceMap | undefined>();
  return stack
    .split('\n')
    .map((line) => {
      const [whole, file, row, column] = FRAME.exec(line) ?? [];
      if (whole === undefined || file === undefined) return line;
      const path = file.replace(/^file:\/\//, '');
      if (!maps.has(path)) maps.set(path, readMap(path));
      const origin = maps.get(path)?.findEntry(Number(row) - 1, Number(column) - 1);
      if (origin === undefined || !('originalSource' in origin)) return line;
      const full = join(dirname(path), origin.originalSource);
      const source = full.slice(Math.max(full.lastIndexOf('/src/') + 1, 0));
      return line.replace(whole, `(${source}:${origin.originalLine + 1}:${origin.originalColumn + 1})`);
    })
    .join('\n');
}

function readMap(path: string): SourceMap | undefined {
  try {
    return new SourceMap(JSON.parse(readFileSync(`${path}.map`, 'utf8')));
  } catch {
    return undefined; // no map beside it: the frame stays as it is
  }
}
