// What the log has said of a job already: STATE/repeats/job-JOBID.json. Each hook is a process of its own, so
// this is kept on disk.
import { statSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import {
  makeDirectory,
  namesIn,
  readForeignFile,
  removeFile,
  writeFileAtomic,
} from '../../util/files/files.ts';
import type { LogLine } from '../../util/log.ts';
import { foreignOwner } from '../owner/state-owner.ts';

const SAID = z.object({
  level: z.enum(['error', 'warn', 'info', 'debug']),
  /** As it was said last. */
  message: z.string(),
  facts: z.record(z.string(), z.unknown()).optional(),
  /** How many hooks have said it; 0: it is known, and the next is counted as the first. */
  times: z.int().min(0),
  /** The first and the last of them; milliseconds since 1970. */
  since: z.number(),
  last: z.number(),
  /** How many of them the log tells of, and when it was told of the last. */
  toldTimes: z.int().min(0),
  toldAt: z.number(),
  /** It stands for all that a hook says. */
  leads: z.boolean(),
});
export type Said = z.infer<typeof SAID>;

const MEMORY = z.object({ version: z.literal(1), job: z.string(), said: z.array(SAID) });

/** A job that has not failed for so long begins anew. TORQUE's scheduler comes by every ten minutes by
 * default. Milliseconds. */
export const QUIET_MS = 15 * 60_000;

/** What a job says in turn is less; what is more is written. */
const MOST_SAID = 24;
const MOST_CHARACTERS = 4_000;
const MAX_BYTES = 256 * 1024;
/** From so many files on, old ones go; from so many on, there are no more. */
const MANY_FILES = 256;
const MOST_FILES = 2_048;

/** Two lines with the same key say the same: amounts, times and random names in them may differ. Undefined:
 * too long to be known. */
export function keyOf({ level, message }: Pick<LogLine, 'level' | 'message'>): string | undefined {
  if (message.length > MOST_CHARACTERS) return undefined;
  const same = message
    .replace(/\b[0-9a-f]{16,}\b/g, '#')
    .replace(/\[ *\d+\.\d+\]/g, '#')
    .replace(/(\b(?:pid|process|load is) )\d+(\.\d+)?/g, '$1#')
    .replace(/\b\d+(\.\d+)?(?= ?(?:bytes|[KMGT]iB|B|ms|s|min|h|%|other guests)(?![\w-]))/g, '#');
  return `${level} ${same}`;
}

/** Directory of the files. A state directory of another node is left alone; undefined: there is no place. */
export function repeatsDirectory(state: string, log: string | undefined): string | undefined {
  if (foreignOwner(state) === undefined) return join(state, 'repeats');
  return log === undefined ? undefined : join(log, 'repeats');
}

/** @param job as a hook was told, whatever that is */
export function memoryFile(directory: string, job: string): string {
  const isPlain = /^[A-Za-z0-9._@-]{1,200}$/.test(job);
  const name = isPlain ? job : `x${Buffer.from(job).toString('hex').slice(0, 200)}`;
  return join(directory, `job-${name}.json`);
}

/** What is known of the job; nothing, if the file is not there or broken: then all is written. */
export function readMemory(file: string): { job: string; said: Said[] } {
  try {
    const content = readForeignFile(file, { maxBytes: MAX_BYTES, ownerUid: 0 }, 'node');
    return content === undefined ? { job: '', said: [] } : MEMORY.parse(JSON.parse(content.toString('utf8')));
  } catch {
    return { job: '', said: [] };
  }
}

/** Never fails: what is not remembered is written again. */
export function writeMemory(directory: string, job: string, said: readonly Said[]): void {
  const file = memoryFile(directory, job);
  try {
    if (said.length === 0) return void removeFile(file);
    makeDirectory(directory, 0o700);
    if (!makeRoom(directory, file)) return;
    const kept = [...said].sort((a, b) => b.last - a.last).slice(0, MOST_SAID);
    const text = () => `${JSON.stringify({ version: 1, job, said: kept })}\n`;
    while (kept.length > 1 && Buffer.byteLength(text()) > MAX_BYTES) kept.pop();
    writeFileAtomic(file, text(), 0o600);
  } catch {
    // Such as a disk that is full.
  }
}

/** Whether there may be one more file. */
function makeRoom(directory: string, file: string): boolean {
  const names = namesIn(directory);
  if (names.length < MANY_FILES || names.includes(file.slice(directory.length + 1))) return true;
  for (const name of names) {
    const changed = statSync(join(directory, name), { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (isOver(changed)) removeFile(join(directory, name));
  }
  return namesIn(directory).length < MOST_FILES;
}

/** Whether a quiet stretch has followed. A clock that was set back makes one, too. */
export function isOver(last: number, now = Date.now()): boolean {
  return Math.abs(now - last) > QUIET_MS;
}
