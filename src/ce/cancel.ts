// Cancel: deletes the batch job. A-REX asks once; the scan then reports the end.
import { isRefused } from '../arc/refused-id.ts';
import { showBytes } from '../arc/text.ts';
import type { Torque } from '../batch/torque/commands.ts';
import { TorqueError } from '../batch/torque/errors.ts';
import { isJobId, mayBeSameJob } from '../batch/torque/job-id.ts';
import { type QdelOutcome, qdel } from '../batch/torque/qdel.ts';
import { monotonicMs, pause } from '../util/clock.ts';
import { toVmbatchError, VmbatchError } from '../util/errors.ts';

/** Time as `cancel` sees it, so that tests need not wait. Milliseconds. */
export interface Clock {
  /** From any fixed moment; never goes back. */
  now: () => number;
  pause: (milliseconds: number) => Promise<void>;
}

const SYSTEM_CLOCK: Clock = { now: monotonicMs, pause };

/** How long a server or node that is away is waited for. A-REX itself looks after its helper only after ten
 * minutes. */
const PATIENCE_MS = 60_000;

/** From the first failure to the next attempt; each pause is twice the one before, up to the longest. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 10_000;

/** @param jobId undefined if the job never got as far as TORQUE; one that was refused never did either
 * @returns what happened, for the job's log
 * @throws VmbatchError only if the batch job may still be there: A-REX takes any failure as the end of the
 * job and never asks again, so failures that may pass are tried again for a minute first */
export async function cancel(
  jobId: string | undefined,
  torque: Torque,
  clock: Clock = SYSTEM_CLOCK,
): Promise<string> {
  if (jobId === undefined) return 'no batch job to delete: the grami file has no joboption_jobid';
  if (isRefused(jobId)) return `no batch job to delete: the job was refused (${jobId})`;
  // The user may write to the grami file; what is no id must not become an option of qdel.
  if (!isJobId(jobId))
    throw new VmbatchError({
      fault: 'site',
      code: UNREADABLE,
      message: `nothing was deleted: found joboption_jobid=${showBytes(jobId)}, must be an id of TORQUE's such as 112.server`,
      hint: "look for the batch job in qstat, by its owner or its output's path, and delete it by hand",
    });
  const outcome = await qdelPatiently(jobId, torque, clock);
  if (outcome !== 'unknown') return describeOutcome(jobId, outcome);
  const other = await findByNumber(jobId, torque);
  if (other === undefined) return `batch job ${jobId} is not known to TORQUE: nothing to delete`;
  return `TORQUE knows batch job ${jobId} as ${other}: ${describeOutcome(other, await qdelPatiently(other, torque, clock))}`;
}

const UNREADABLE = 'job-id-unreadable';

function describeOutcome(jobId: string, outcome: QdelOutcome): string {
  switch (outcome) {
    case 'requested':
      return `batch job ${jobId} is being deleted`;
    case 'unknown':
      return `batch job ${jobId} is not known to TORQUE: nothing to delete`;
    case 'ended':
      return `batch job ${jobId} has ended: nothing to delete`;
  }
}

/** The id that TORQUE has for a job whose server it calls otherwise than when the job was submitted. Asked
 * for by the number alone, it answers for its own server.
 * @returns undefined if it knows none, or only one that has ended
 * @throws TorqueError if it does not answer */
async function findByNumber(jobId: string, torque: Torque): Promise<string | undefined> {
  const number = jobId.split('.')[0] ?? '';
  if (number === jobId) return undefined;
  const { streamJobElements } = await import('../batch/torque/answers/qstat.ts');
  let found: string | undefined;
  await streamJobElements(torque, {
    ids: [number],
    onElement: ({ shownId, state }) => {
      if (state !== 'C' && mayBeSameJob(shownId, jobId)) found = shownId;
    },
  });
  return found === jobId ? undefined : found;
}

async function qdelPatiently(jobId: string, torque: Torque, clock: Clock): Promise<QdelOutcome> {
  const deadline = clock.now() + PATIENCE_MS;
  for (let next = FIRST_PAUSE_MS; ; next = Math.min(2 * next, LONGEST_PAUSE_MS)) {
    try {
      return await qdel(torque, jobId, deadline - clock.now());
    } catch (error) {
      const passing = error instanceof TorqueError && error.passing;
      if (!passing || clock.now() + next >= deadline) throw error;
    }
    await clock.pause(next);
  }
}

/** What cancel says when it fails. Whatever a failure means elsewhere, here it is no fault of the grid job;
 * only what nobody foresaw stays a bug. */
export function cancelFault(thrown: unknown): VmbatchError {
  const error = toVmbatchError(thrown, 'site');
  if (error.code === 'unexpected') return error;
  const { code, message, hint, cause } = error;
  if (code === UNREADABLE) return error;
  const later =
    'the scan tries again to delete the batch job, for a day, once A-REX has let go of the grid job';
  return new VmbatchError({
    fault: 'site',
    ...{ code, message, cause },
    hint: hint === undefined ? later : `${hint}; ${later}`,
  });
}
