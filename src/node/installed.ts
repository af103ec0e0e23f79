// STATE/installed.json: where `hooks install` put what it put, and where the log is. For when the node file
// cannot tell any more.
import { join } from 'node:path';
import { readForeignFile, writeFileAtomic } from '../util/files/files.ts';
import { prepareState } from './record.ts';

export interface Installed {
  /** The mom's `mom_priv`. */
  momDirectory?: string;
  jobStarter?: string;
  /** The log directory of the last node file that could be read. */
  log?: string;
}

export const DEFAULT_JOB_STARTER = '/usr/local/libexec/vmbatch-job-starter';

const fileIn = (state: string) => join(state, 'installed.json');

/** What is known; a file that is missing or broken says nothing. */
export function readInstalled(state: string): Installed {
  try {
    const content = readForeignFile(fileIn(state), { maxBytes: 16_384, ownerUid: 0 }, 'node');
    const parsed: unknown = JSON.parse(content?.toString('utf8') ?? '{}');
    if (typeof parsed !== 'object' || parsed === null) return {};
    const known = parsed as Record<string, unknown>;
    const path = (name: keyof Installed) => {
      const value = known[name];
      return typeof value === 'string' && value.startsWith('/') ? { [name]: value } : {};
    };
    return { ...path('momDirectory'), ...path('jobStarter'), ...path('log') };
  } catch {
    return {};
  }
}

/** Writes down what is new. */
export function noteInstalled(state: string, news: Installed): void {
  const known = readInstalled(state);
  const names = Object.keys(news) as (keyof Installed)[];
  if (names.every((name) => known[name] === news[name])) return;
  prepareState(state);
  writeFileAtomic(fileIn(state), `${JSON.stringify({ ...known, ...news }, undefined, 1)}\n`, 0o600);
}
