// Reporting jobs that are over: made sure that A-REX waits for them, finished account by account.
import { parseLocal } from '../arc/local.ts';
import { isRefused } from '../arc/refused-id.ts';
import { decodeBytes, showBytes } from '../arc/text.ts';
import { isJobId } from '../torque/job-id.ts';
import { toVmbatchError } from '../util/errors.ts';
import { outputIsOf } from './batch-job-owner.ts';
import { type EndedJob, type Finished, finishJobs } from './finish.ts';
import type { Complain } from './scan-sources.ts';
import type { Over, Suspects } from './scan-suspects.ts';
import type { WatchedJob, WatchList } from './scan-watch.ts';

/** A watched job whose batch job is over. */
export type ReadyJob = Pick<Over, 'batch' | 'settled'> & { job: WatchedJob };

/** How long a report waits for a file server that is away. Milliseconds. */
const INSIST_MS = 60_000;

/** A line this much older than the job is about another one: the server's numbers began anew. Milliseconds. */
const OTHER_JOB_MS = 24 * 3_600_000;

/** Jobs between two looks at the signal. */
const JOBS_A_BATCH = 32;

export interface ReportOptions {
  log: (line: string) => void;
  complain: Complain;
  signal: AbortSignal;
  suspects: Suspects;
  /** Called for each job that was reported. */
  onReported: (job: WatchedJob) => void;
}

/** Reports the jobs of one control directory that A-REX waits for; suspects remember those that cannot be reported yet.
 * @returns grid ids of the jobs that were reported */
export async function reportJobs(
  watch: WatchList,
  ready: readonly ReadyJob[],
  options: ReportOptions,
): Promise<string[]> {
  const reported: string[] = [];
  for (const batch of batches(ready.flatMap((one) => confirm(one, options) ?? []))) {
    if (options.signal.aborted) break;
    const ends = await finishJobs(
      batch.map(({ ended }) => ended),
      watch.directory,
    );
    for (const [at, { job }] of batch.entries()) {
      const end = ends[at];
      if (end === undefined || !settle(job, end, options)) continue;
      watch.release(job.gridId);
      reported.push(job.gridId);
    }
  }
  return reported;
}

/** @returns whether the job is reported */
function settle(
  job: WatchedJob,
  end: Finished,
  { log, complain, suspects, onReported }: ReportOptions,
): boolean {
  const { gridId, localId } = job;
  if (end.result === 'unsettled') suspects.doubt(localId);
  else if (end.result === 'failed') {
    suspects.fail(localId);
    complain(gridId, `job ${gridId}: ${end.problem}`);
  } else {
    for (const problem of end.problems) log(`job ${gridId}: ${problem}`);
    // Once, not for each job: it is the site's runtime environments that want mending.
    if (end.complaint !== undefined)
      complain('stage 0', `runtime environments went on in stage 0 after they had said: ${end.complaint}`);
    const what = end.outcome.text === '' ? 'exit code 0' : `${end.outcome.code} ${end.outcome.text}`;
    // Whatever stands in `.local` may be an id.
    const id = isJobId(localId) || isRefused(localId) ? localId : showBytes(localId);
    log(`job ${gridId} (${id}) ended: ${what}`);
    complain(gridId, undefined);
    onReported(job);
  }
  return end.result === 'done';
}

interface ConfirmedJob {
  job: WatchedJob;
  ended: EndedJob;
}

/** What is needed to report the job; undefined if A-REX does not wait for the end of this very batch job. */
function confirm(
  { job, batch, settled }: ReadyJob,
  { complain, suspects }: ReportOptions,
): ConfirmedJob | undefined {
  const { gridId, localId, watch } = job;
  try {
    const state = watch.awaitedState(gridId);
    const file = state === undefined ? undefined : watch.directory.readLocal(gridId);
    const local = file === undefined ? undefined : parseLocal(file.text);
    if (file === undefined || local?.localId !== localId) {
      watch.release(gridId);
      return undefined;
    }
    // The job's account is the owner of its `.local` file, which A-REX wrote in its own directory.
    if (file.uid === 0) {
      complain(gridId, `job ${gridId}: its files belong to root; A-REX ignores such jobs, and so does scan`);
      watch.ignore(gridId);
      return undefined;
    }
    const { sessionDirectory, startTime } = local;
    const foreign = batch?.errorPath !== undefined && !outputIsOf(gridId, batch.errorPath);
    if (foreign)
      complain(
        gridId,
        `job ${gridId}: batch job ${localId} is not its own (the output goes to ${batch.errorPath}): nothing of that is reported`,
      );
    const end = batch?.completionTime;
    if (!settled && end !== undefined && startTime !== undefined && end * 1000 < startTime - OTHER_JOB_MS) {
      suspects.doubt(localId);
      return undefined;
    }
    const failedAt = suspects.failedAt(localId);
    const ended = {
      gridId,
      localId,
      // Whoever can write another job's id into their files must not learn how that job ended.
      batch: foreign ? undefined : batch,
      settled,
      account: { uid: file.uid, gid: file.gid },
      sessionDirectory: sessionDirectory === undefined ? undefined : decodeBytes(sessionDirectory),
      cancelled: state === 'CANCELING',
      insist: failedAt === undefined || Date.now() - failedAt < INSIST_MS,
    };
    return { job, ended };
  } catch (error) {
    suspects.fail(localId);
    complain(gridId, `job ${gridId}: ${toVmbatchError(error, 'site').message}`);
    return undefined;
  }
}

/** Jobs of one account together, some at a time. */
function batches(jobs: readonly ConfirmedJob[]): ConfirmedJob[][] {
  const accounts = new Map<string, ConfirmedJob[]>();
  for (const job of jobs) {
    const key = `${job.ended.account.uid}:${job.ended.account.gid}`;
    const known = accounts.get(key);
    if (known === undefined) accounts.set(key, [job]);
    else known.push(job);
  }
  return [...accounts.values()].flatMap((all) =>
    Array.from({ length: Math.ceil(all.length / JOBS_A_BATCH) }, (_, at) =>
      all.slice(at * JOBS_A_BATCH, (at + 1) * JOBS_A_BATCH),
    ),
  );
}
