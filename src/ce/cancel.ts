// Cancel: deletes the batch job. A-REX asks once; the scan then reports the end.
import { setTimeout } from 'node:timers/promises';
import type { Torque } from '../torque/commands.ts';
import { TorqueError } from '../torque/errors.ts';
import { type QdelOutcome, qdel } from '../torque/qdel.ts';

/** Time as `cancel` sees it, so that tests need not wait. Milliseconds. */
export interface Clock {
  /** From any fixed moment; never goes back. */
  now: () => number;
  pause: (milliseconds: number) => Promise<void>;
}

const SYSTEM_CLOCK: Clock = {
  now: () => performance.now(),
  pause: async (milliseconds) => {
    await setTimeout(milliseconds);
  },
};

/** How long a server or node that is away is waited for. A-REX itself looks after its helper only after ten minutes. */
const PATIENCE_MS = 60_000;

/** From the first failure to the next attempt; each pause is twice the one before, up to the longest. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 10_000;

/** @param jobId undefined if the job never got as far as TORQUE
 * @returns what happened, for the job's log
 * @throws VmbatchError only if the batch job may still be there: A-REX takes any failure as the end of the job and
 * never asks again, so failures that may pass are tried again for a minute first */
export async function cancel(
  jobId: string | undefined,
  torque: Torque,
  clock: Clock = SYSTEM_CLOCK,
): Promise<string> {
  if (jobId === undefined) return 'no batch job to delete: the grami file has no joboption_jobid';
  switch (await qdelPatiently(jobId, torque, clock)) {
    case 'requested':
      return `batch job ${jobId} is being deleted`;
    case 'unknown':
      return `batch job ${jobId} is not known to TORQUE: nothing to delete`;
    case 'ended':
      return `batch job ${jobId} has ended: nothing to delete`;
  }
}

async function qdelPatiently(jobId: string, torque: Torque, clock: Clock): Promise<QdelOutcome> {
  const deadline = clock.now() + PATIENCE_MS;
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    try {
      return await qdel(torque, jobId, deadline - clock.now());
    } catch (error) {
      const passing = error instanceof TorqueError && error.passing;
      if (!passing || clock.now() + pause >= deadline) throw error;
    }
    await clock.pause(pause);
  }
}
