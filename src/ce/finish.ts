// What scan does for jobs that are over: complete the session's `.diag`, pass on the output, then write lrms_done.
import type { ControlDirectory } from '../arc/control-directory.ts';
import { type Diag, diagExitCode, diagTime, diagValue, mergeDiag } from '../arc/diag.ts';
import { isRefused } from '../arc/refused-id.ts';
import { decodeBytes, encodeBytes } from '../arc/text.ts';
import { type Account, asUser } from '../util/as-user.ts';
import { errnoOf, toVmbatchError } from '../util/errors.ts';
import { appendErrorsOnce, readComment, readDiag, writeDiag } from './job-record.ts';
import { writeLrmsDone } from './lrms-done.ts';
import {
  accountedExitCode,
  type BatchRecord,
  lastWordsOf,
  type Outcome,
  oneLine,
  outcomeOf,
  refusalOf,
  renderLrmsDone,
} from './outcome.ts';
import { removeMark } from './submission-mark.ts';

/** A job in state INLRMS or CANCELING that is over. Paths are text. */
export interface EndedJob {
  gridId: string;
  account: Account;
  /** Undefined: A-REX does not say. */
  sessionDirectory: string | undefined;
  localId: string;
  cancelled: boolean;
  /** Undefined if TORQUE knows nothing of it any more. */
  batch: BatchRecord | undefined;
  /** TORQUE has brought the job's output and forgotten its processes; if not, only a job with a record of its own is
   * reported. */
  settled: boolean;
  /** Rather wait than report without the job's own record, if that cannot be read for a passing reason. */
  insist: boolean;
}

/** What became of a report. `unsettled`: wait until TORQUE is done with the job. `failed`: try again. */
export type Finished =
  | {
      result: 'done';
      outcome: Outcome;
      problems: string[];
      /** What runtime environments said on stderr in stage 0, as the job's `.diag` has it. Text; the file is the user's own. */
      complaint: string | undefined;
    }
  | { result: 'unsettled' }
  | { result: 'failed'; problem: string };

/** Reports jobs of one account in one control directory as ended. Changes to that account once for all of them: it
 * stops every thread of the process, and so costs more than all the files of a job.
 * @returns one for each job, in order */
export async function finishJobs(
  jobs: readonly EndedJob[],
  directory: ControlDirectory,
): Promise<Finished[]> {
  const [first] = jobs;
  if (first === undefined) return [];
  let results: Finished[];
  try {
    results = asUser(first.account, () => jobs.map((job) => recordEnd(job, directory)));
  } catch (error) {
    results = jobs.map(() => ({ result: 'failed', problem: toVmbatchError(error, 'site').message }));
  }
  const files = jobs.flatMap((job, index) => {
    const result = results[index];
    if (result?.result !== 'done') return [];
    return [
      { index, path: directory.jobFile(job.gridId, 'lrms_done'), text: renderLrmsDone(result.outcome) },
    ];
  });
  // Last and whole: an empty lrms_done would count as success.
  const failures = await writeLrmsDone(files);
  for (const [at, { index, path }] of files.entries()) {
    const failure = failures[at];
    if (failure !== undefined)
      results[index] = {
        result: 'failed',
        problem: `${path}: cannot be written (${errnoOf(failure) ?? 'unknown error'})`,
      };
  }
  return results;
}

/** What fails when a file server is away, and works when it is back. */
const PASSING = new Set([
  'EIO',
  'ESTALE',
  'ETIMEDOUT',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'ENOTCONN',
  'ECONNREFUSED',
  'EREMOTEIO',
]);

/** Everything that is done as the job's user. May be done again if lrms_done then cannot be written. */
function recordEnd(job: EndedJob, directory: ControlDirectory): Finished {
  const { account, sessionDirectory, cancelled, batch } = job;
  const problems: string[] = [];
  let passing = false;
  const attempt = <T>(work: () => T): T | undefined => {
    try {
      return work();
    } catch (error) {
      const { message, cause } = toVmbatchError(error, 'site');
      problems.push(message);
      passing ||= PASSING.has(errnoOf(cause) ?? '');
      return undefined;
    }
  };

  let own: Diag = [];
  let comment: Buffer | undefined;
  if (sessionDirectory !== undefined) {
    own = attempt(() => readDiag(account, `${sessionDirectory}.diag`)) ?? [];
    comment = attempt(() => readComment(account, `${sessionDirectory}.comment`));
  }
  if (passing && job.insist) return { result: 'failed', problem: problems.join('; ') };
  const ownExitCode = diagExitCode(own);
  const refused = isRefused(job.localId);
  if (ownExitCode === undefined && !job.settled && !refused) return { result: 'unsettled' };
  const lastWords = comment === undefined ? undefined : lastWordsOf(comment.toString('utf8'));
  const outcome = refused
    ? refusalOf(diagValue(own, 'vmbatch_refusal'))
    : outcomeOf({
        ownExitCode,
        torque: batch,
        cancelled,
        lastWords,
        ownMessage: diagValue(own, 'LRMSMessage'),
      });
  if (sessionDirectory !== undefined) {
    const diag = mergeDiag(
      own,
      fallbacks(batch, ownExitCode, outcome),
      verdicts(batch, ownExitCode, outcome, lastWords),
    );
    attempt(() => writeDiag(account, `${sessionDirectory}.diag`, diag));
    if (passing && job.insist) return { result: 'failed', problem: problems.join('; ') };
  }
  if (comment !== undefined && comment.length > 0) {
    const log = directory.jobFile(job.gridId, 'errors');
    if (attempt(() => appendErrorsOnce(account, log, comment, batch?.id ?? job.localId)) === false)
      problems.push(`${log}: is not there`);
  }
  // A submission that A-REX asks for again from here on is a new one, and not to find this job.
  if (sessionDirectory !== undefined) removeMark(sessionDirectory);
  const complaint = diagValue(own, 'vmbatch_complaint');
  return {
    result: 'done',
    outcome,
    problems,
    complaint: complaint === undefined ? undefined : oneLine(decodeBytes(complaint.slice(0, 1200))),
  };
}

/** What TORQUE knows of a job whose script did not come to writing it. Not its CPU time and memory: those are of
 * the process that waited for the guest. */
function fallbacks(batch: BatchRecord | undefined, ownExitCode: number | undefined, { code }: Outcome): Diag {
  const pairs: [string, string][] = [];
  for (const { host } of batch?.nodes ?? []) pairs.push(['nodename', host]);
  const slots = batch?.nodes.reduce((sum, node) => sum + node.slots, 0) ?? 0;
  if (slots > 0) pairs.push(['Processors', String(slots)]);
  if (batch?.wallTime !== undefined) pairs.push(['WallTime', `${batch.wallTime}s`]);
  if (batch?.startTime !== undefined) pairs.push(['LRMSStartTime', diagTime(batch.startTime)]);
  if (batch?.startTime !== undefined && batch.completionTime !== undefined)
    pairs.push(['LRMSEndTime', diagTime(batch.completionTime)]);
  // A-REX cuts numbers at the first character that is no digit: -11 would become 0, success.
  if (ownExitCode === undefined && code > 0) pairs.push(['exitcode', String(code)]);
  return pairs;
}

/** What scan knows better than the job: what TORQUE said, and that a job which was killed did not end well. */
function verdicts(
  batch: BatchRecord | undefined,
  ownExitCode: number | undefined,
  outcome: Outcome,
  lastWords: string | undefined,
): Diag {
  const pairs: [string, string][] = [];
  if (outcome.code !== 0 && outcome.code !== ownExitCode)
    pairs.push(['LRMSMessage', encodeBytes(lastWords ?? outcome.text)]);
  if (batch?.exitStatus !== undefined) pairs.push(['LRMSExitcode', String(batch.exitStatus)]);
  if (outcome.code !== 0 && ownExitCode === 0) pairs.push(['exitcode', String(accountedExitCode(outcome))]);
  return pairs;
}
