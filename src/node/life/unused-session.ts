// A guest that was ready, and a job that ran elsewhere: on the node itself, or not at all.

import type { EpilogueArguments } from '../../batch/torque/mom/hook-arguments.ts';
import type { Outcome } from '../../guest/session/session-file.ts';
import type { JobRecord } from '../record.ts';

/** What exit statuses of programs that could not do their work mean here. */
const MEANINGS: ReadonlyMap<number, string> = new Map([
  [1, "Node could not load vmbatch, which is closed to the job's user or gone"],
  [126, 'a program that the job starter names cannot be executed'],
  [127, 'a program that the job starter names is not there'],
  [254, 'the mom could not execute the job starter'],
]);

/** The outcome of a job whose starter left none, although its guest was there for it; undefined: there is an
 * outcome, or something else explains that there is none. A job that was killed (256 and more) may have been
 * so before the starter came to write, and negative statuses are the mom's own.
 * @param reason what is wrong with the mom's configuration or the starter just now, if anything can be
 * seen */
export function unusedSession(
  { jobId, steps, peers }: JobRecord,
  { exitStatus, session }: EpilogueArguments,
  outcome: Outcome | undefined,
  reason: string | undefined,
): Outcome | undefined {
  const isFirst = (peers?.rank ?? 0) === 0;
  if (outcome !== undefined || steps.session !== 'held' || !isFirst) return undefined;
  if (exitStatus < 0 || exitStatus > 255 || session === 0) return undefined;
  const why =
    reason ??
    MEANINGS.get(exitStatus) ??
    'the mom started it without the job starter: was pbs_mom restarted after its configuration was changed?';
  const message = `job ${jobId} did not run in its guest (exit status ${exitStatus}): ${why}`;
  return { version: 1, fault: 'node', code: 'starter-unused', message: message.slice(0, 2000) };
}
