// Where the mom of this node keeps its jobs: one file each, named after the job script that the hooks are
// told of.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { writeFileAtomic } from '../util/files/files.ts';

/** As TORQUE has it: JOB.SC is the script, JOB.JB what the mom itself knows. */
export function momFileOf(script: string): string | undefined {
  return script.endsWith('.SC') ? `${script.slice(0, -3)}.JB` : undefined;
}

const notePath = (state: string) => join(state, 'mom-jobs');

/** The directory; undefined until a hook was called or installed. */
export function momJobsDirectory(state: string): string | undefined {
  try {
    return readFileSync(notePath(state), 'utf8').trim() || undefined;
  } catch {
    return undefined;
  }
}

/** Writes the directory down, for who looks after jobs without a record. */
export function noteMomJobs(state: string, directory: string): void {
  if (momJobsDirectory(state) !== directory) writeFileAtomic(notePath(state), `${directory}\n`, 0o644);
}

/** From the path of a job script, as the hooks get it. */
export function noteMomJobsOf(state: string, script: string): void {
  if (momFileOf(script) !== undefined) noteMomJobs(state, dirname(script));
}
