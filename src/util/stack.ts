// A stack trace in terms of the TypeScript sources. Done by hand when there is something to report, since
// Node's own switch for it reads every source map at every start.
import { readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import { dirname, join, relative } from 'node:path';

const FRAME = /\(?((?:file:\/\/)?\/[^():]+):(\d+):(\d+)\)?$/;

/** Replaces each `FILE:LINE:COLUMN` whose file has a `.map` beside it; leaves all else as it is. */
export function mapStack(stack: string): string {
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
      const source = relative(join(dirname(path), '..'), join(dirname(path), origin.originalSource));
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
