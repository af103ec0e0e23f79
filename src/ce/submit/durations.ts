// How long the parts of a submission took, in the file where ARC's own backends write it when the site asks
// for that.
import { join } from 'node:path';
import { monotonicMs } from '../../util/clock.ts';
import { appendPerflog } from '../perflog.ts';

/** Adds `[date time] submit-vmbatch-job, STEP: SECONDS` to `submission.perflog`, local time as in ARC. Never
 * fails: nobody waits for a figure.
 * @param directory undefined: the site does not want it
 * @param started as `monotonicMs()` gave it */
export function logDuration(
  directory: string | undefined,
  step: 'JobScriptCreation' | 'JobSubmission',
  started: number,
): void {
  if (directory === undefined) return;
  const seconds = ((monotonicMs() - started) / 1000).toFixed(3);
  const now = new Date();
  const local = new Date(now.getTime() - now.getTimezoneOffset() * 60_000).toISOString();
  try {
    appendPerflog(
      join(directory, 'submission.perflog'),
      `[${local.slice(0, 10)} ${local.slice(11, 19)}] submit-vmbatch-job, ${step}: ${seconds}\n`,
      0o666,
    );
  } catch {
    // Users may not be allowed to write there.
  }
}
