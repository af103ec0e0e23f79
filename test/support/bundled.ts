// Programs of a test's own that use our modules, as processes: for what only several processes at once can
// show.
import { type ChildProcess, spawn } from 'node:child_process';
import { buildSync } from 'esbuild';

/** Bundles a program given as TypeScript text; imports are relative to `directory`. */
export function bundleProgram(text: string, directory: string, outfile: string): void {
  buildSync({
    stdin: { contents: text, resolveDir: directory, loader: 'ts' },
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    outfile,
    define: { 'import.meta.dirname': '__dirname' },
    logLevel: 'error',
  });
}

/** Starts `count` processes of it and lets all go at the same moment, by closing their stdin.
 * @returns what each printed */
export async function runAtOnce(
  program: string,
  argumentsOf: (index: number) => string[],
  count: number,
): Promise<string[]> {
  const children = Array.from({ length: count }, (_, index) =>
    spawn(process.execPath, [program, ...argumentsOf(index)], { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
  const outputs = children.map(outputOf);
  await Promise.all(children.map((child) => new Promise((resolve) => child.stdout?.once('data', resolve))));
  for (const child of children) child.stdin?.end();
  return Promise.all(outputs);
}

/** What it printed after the line that says that it is up. */
function outputOf(child: ChildProcess): Promise<string> {
  let text = '';
  child.stdout?.on('data', (data: Buffer) => {
    text += data.toString();
  });
  return new Promise((resolve) => child.once('close', () => resolve(text.replace(/^up\n/, '').trim())));
}

/** To be put at the beginning of such a program. */
export const WAIT_FOR_START = `
  import { readFileSync as waitForEnd } from 'node:fs';
  process.stdout.write('up\\n');
  waitForEnd(0);
`;
