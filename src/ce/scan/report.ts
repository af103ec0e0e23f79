// Before and after a finished job is reported: whether A-REX still waits for it, and how it ended.
import { parseLocal } from '../../arc/local.ts';
import { isRefused } from '../../arc/refused-id.ts';
import { decodeBytes, showBytes } from '../../arc/text.ts';
import { isJobId } from '../../batch/torque/job-id.ts';
import { toVmbatchError } from '../../util/errors.ts';
import { outputIsOf } from '../batch-job-owner.ts';
import type { EndedJob, Tried } from '../finish/finish.ts';
import type { Complain } from './sources.ts';
import type { Over, Suspects } from './suspects.ts';
import type { WatchedJob } from './watch.ts';

/** A watched job whose batch job is over. */
export type ReadyJob = Pick<Over, 'batch' | 'settled'> & { job: WatchedJob };

/** How long a report waits for a file server that is away. Milliseconds. */
const INSIST_MS = 60_000;

/** A line this much older than the job is about another one: the server's numbers began anew.
 * Milliseconds. */
const OTHER_JOB_MS = 24 * 3_600_000;

export interface ReportOptions {
  log: (line: string) => void;
  complain: Complain;
  signal: AbortSignal;
  suspects: Suspects;
  /** How long a file of a job may take to answer. Milliseconds. */
  fileMs: number;
  /** Called for each job that was reported. */
  onReported: (job: WatchedJob) => void;
}

/** Tells the admin how a report went; suspects remember a job that cannot be reported yet.
 * @returns whether the job is reported */
export function settle(
  job: WatchedJob,
  end: Tried,
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

/** A job of which A-REX waits for the end, with what is needed to report it. */
export interface ConfirmedJob {
  job: WatchedJob;
  ready: ReadyJob;
  ended: EndedJob;
}

/** Undefined if A-REX does not wait for the end of this very batch job. */
export function confirm(
  ready: ReadyJob,
  { complain, suspects }: Pick<ReportOptions, 'complain' | 'suspects'>,
): ConfirmedJob | undefined {
  const { job, batch, settled } = ready;
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
    return { job, ready, ended };
  } catch (error) {
    suspects.fail(localId);
    complain(gridId, `job ${gridId}: ${toVmbatchError(error, 'site').message}`);
    return undefined;
  }
}
