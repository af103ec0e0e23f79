// Consoles of failed jobs, kept after their guests are gone: STATE/consoles/JOBID.log, the newest few of
// them.
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectory, removeFile, writeFileAtomic } from '../../util/files/files.ts';
import { readConsoleEnd } from './tail.ts';

/** A guest writes what it likes to its console; what is kept of it is the end. */
const KEPT_BYTES = 1024 * 1024;

export function consoleDirectory(state: string): string {
  return join(state, 'consoles');
}

/** Where the console of a job that is over is, if it was kept. */
export function keptConsolePath(state: string, jobId: string): string {
  return join(consoleDirectory(state), `${jobId}.log`);
}

/** Keeps the end of a console, and of all kept ones only the newest `limit`. No error if there is no
 * console. */
export function keepConsole(state: string, jobId: string, console: string, limit: number): void {
  if (limit === 0) return;
  const text = readConsoleEnd(console, KEPT_BYTES);
  if (text === undefined || text.length === 0) return;
  const directory = consoleDirectory(state);
  makeDirectory(directory, 0o700);
  writeFileAtomic(keptConsolePath(state, jobId), text, 0o600);
  const kept = readdirSync(directory)
    .filter((name) => name.endsWith('.log'))
    .map((name) => ({ name, time: statSync(join(directory, name), { throwIfNoEntry: false })?.mtimeMs ?? 0 }))
    .sort((a, b) => b.time - a.time);
  for (const { name } of kept.slice(limit)) removeFile(join(directory, name));
}
