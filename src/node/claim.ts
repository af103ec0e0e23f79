// Who may work on a job's things: its prologue, its epilogue or the reaper, one at a time. A claim is a file
// that names its process, so that one whose process has ended counts for nothing; nobody ever takes away the
// file of another that lives.
import { closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { processRuns, thisProcess } from '../hypervisor/guest-process.ts';
import { VmbatchError } from '../util/errors.ts';
import { makeDirectory, namesIn, removeFile } from '../util/files/files.ts';
import { randomToken } from '../util/random-token.ts';

const LOOK_MS = 20;
/** JOBID,PID,STARTTICKS,TOKEN */
const CLAIM = /^([^,]+),(\d+),(\d+),[0-9a-f]+$/;

function claimDirectory(state: string): string {
  return join(state, 'claims');
}

/** Waits until no other living process works on the job.
 *
 * Two never both get it: each first makes its file and then looks, so of two that look at the same time both
 * see the other and step back.
 * @param waitMs 0: one look
 * @returns what gives the claim back; undefined if the time was over */
export async function claimJob(
  state: string,
  jobId: string,
  waitMs: number,
  signal?: AbortSignal,
): Promise<(() => void) | undefined> {
  const directory = claimDirectory(state);
  makeDirectory(directory, 0o700);
  const { pid, startTicks } = thisProcess();
  const own = [jobId, pid, startTicks, randomToken(8)].join(',');
  const path = join(directory, own);
  const deadline = performance.now() + waitMs;
  for (;;) {
    signal?.throwIfAborted();
    if (!isClaimed(state, jobId)) {
      closeSync(openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600));
      if (!isClaimed(state, jobId, own)) return () => removeFile(path);
      removeFile(path);
    }
    if (performance.now() >= deadline) return undefined;
    await sleep(LOOK_MS * (0.5 + Math.random()), undefined, { signal }).catch(() => undefined);
  }
}

/** As claimJob.
 * @throws VmbatchError `node` (`job-claimed`) when the time is over */
export async function mustClaimJob(
  state: string,
  jobId: string,
  waitMs: number,
  signal?: AbortSignal,
): Promise<() => void> {
  const release = await claimJob(state, jobId, waitMs, signal);
  if (release !== undefined) return release;
  throw new VmbatchError({
    fault: 'node',
    code: 'job-claimed',
    message: `another process has been working on job ${jobId} for ${Math.round(waitMs / 1000)} s`,
    hint: `its claim is in ${claimDirectory(state)}; vmbatch reap removes what it leaves`,
    jobId,
  });
}

/** Whether a living process works on the job; files of dead ones are removed. */
export function isClaimed(state: string, jobId: string, except?: string): boolean {
  return claims(state).some(({ name, holder, of }) => {
    if (of !== jobId || name === except) return false;
    if (processRuns(holder)) return true;
    removeFile(join(claimDirectory(state), name));
    return false;
  });
}

/** Claims of processes that have ended. */
export function deadClaims(state: string): string[] {
  return claims(state)
    .filter(({ holder }) => !processRuns(holder))
    .map(({ name }) => join(claimDirectory(state), name));
}

function claims(state: string): { name: string; of: string; holder: { pid: number; startTicks: number } }[] {
  return namesIn(claimDirectory(state)).flatMap((name) => {
    const [, of = '', pid, startTicks] = CLAIM.exec(name) ?? [];
    return of === '' ? [] : [{ name, of, holder: { pid: Number(pid), startTicks: Number(startTicks) } }];
  });
}
