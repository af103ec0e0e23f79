// The first context disk that a process makes, as a prologue does: compiled beforehand as that is, see
// iso-start.ts.
import { readFileSync } from 'node:fs';
import { buildIso } from '../../src/context/iso9660.ts';

/** Prints milliseconds. Argument: files as JSON, by their paths. */
export async function main([list = '']: string[]): Promise<number> {
  const texts = JSON.parse(readFileSync(list, 'utf8')) as Record<string, string>;
  const files = Object.entries(texts).map(([path, text]) => ({ path, data: Buffer.from(text) }));
  const started = process.hrtime.bigint();
  const iso = buildIso(files, { volumeLabel: 'cidata', modified: new Date(1_700_000_000_000) });
  const milliseconds = Number(process.hrtime.bigint() - started) / 1e6;
  process.stdout.write(`${milliseconds} ${iso.length}\n`);
  return 0;
}
