// What scan does for jobs that are over: complete the session's `.diag`, pass on the output, then write
// lrms_done.
import type { ControlDirectory } from '../../arc/control-directory.ts';
import { type Diag, diagExitCode, diagTime, diagValue, mergeDiag } from '../../arc/diag.ts';
import { isRefused } from '../../arc/refused-id.ts';
import { decodeBytes, encodeBytes } from '../../arc/text.ts';
import type { Account, FileOperation, FileResult, UserFiles } from '../../util/accounts/as-user.ts';
import { errnoOf, toVmbatchError } from '../../util/errors.ts';
import { markPath } from '../submit/mark.ts';
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
import { appendErrorsOnce, diagOf, readComment, readDiag, writeDiag } from './session-files.ts';

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
  /** TORQUE has brought the job's output and forgotten its processes; if not, only a job with a record of its
   * own is reported. */
  settled: boolean;
  /** Rather wait than report without the job's own record, if that cannot be read for a passing reason. */
  insist: boolean;
}

/** What became of a report. `unsettled`: wait until TORQUE is done with the job. `failed`: try again. `hung`:
 * its files do not answer. `put-off`: there was no getting to it. */
export type Finished = Tried | NotTried;
type NotTried = { result: 'hung' } | { result: 'put-off' };
export type Tried =
  | {
      result: 'done';
      outcome: Outcome;
      problems: string[];
      /** What runtime environments said on stderr in stage 0, as the job's `.diag` has it. Text; the file is
       * the user's own. */
      complaint: string | undefined;
    }
  | { result: 'unsettled' }
  | { result: 'failed'; problem: string };

/** Reports jobs of one account in one control directory as ended, all of them in two exchanges with the
 * process that has the account's ids.
 * @returns one for each job, in order */
export async function finishJobs(
  jobs: readonly EndedJob[],
  directory: ControlDirectory,
  files: UserFiles,
): Promise<Finished[]> {
  let results: Finished[];
  try {
    results = await recordEnds(jobs, directory, files);
  } catch (error) {
    results = jobs.map(() => ({ result: 'failed', problem: toVmbatchError(error, 'site').message }));
  }
  const done = jobs.flatMap((job, index) => {
    const result = results[index];
    if (result?.result !== 'done') return [];
    return [
      { index, path: directory.jobFile(job.gridId, 'lrms_done'), text: renderLrmsDone(result.outcome) },
    ];
  });
  // Last and whole: an empty lrms_done would count as success.
  const failures = await writeLrmsDone(done);
  for (const [at, { index, path }] of done.entries()) {
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

/** Everything that is done as the jobs' user. May be done again if lrms_done then cannot be written. */
async function recordEnds(
  jobs: readonly EndedJob[],
  directory: ControlDirectory,
  files: UserFiles,
): Promise<Finished[]> {
  const reads = jobs.map(({ sessionDirectory }) =>
    sessionDirectory === undefined ? [] : [readDiag(sessionDirectory), readComment(sessionDirectory)],
  );
  const answers = await performGroups(files, reads);
  const decisions = jobs.map((job, at): Decision | NotTried => {
    const answer = answers[at];
    return typeof answer === 'string' || answer === undefined
      ? notTried(answer)
      : decide(job, new Answers(reads[at] ?? [], answer), directory);
  });
  const writes = decisions.map((decision) => (decision.result === 'done' ? decision.writes : []));
  const written = await performGroups(files, writes);
  return decisions.map((decision, at): Finished => {
    if (decision.result !== 'done') return decision;
    const answer = written[at];
    if (typeof answer === 'string' || answer === undefined) return notTried(answer);
    const answered = new Answers(writes[at] ?? [], answer);
    const problems = [...decision.problems, ...answered.problems];
    if (answered.isPassing && jobs[at]?.insist === true)
      return { result: 'failed', problem: problems.join('; ') };
    return { result: 'done', outcome: decision.outcome, complaint: decision.complaint, problems };
  });
}

const notTried = (why: 'hung' | 'put-off' | undefined): NotTried =>
  why === 'hung' ? { result: 'hung' } : { result: 'put-off' };

/** For each group its results; `hung` for the one that met a file that does not answer, `put-off` for those
 * after it. */
async function performGroups(
  files: UserFiles,
  groups: readonly FileOperation[][],
): Promise<(FileResult[] | 'hung' | 'put-off')[]> {
  const results = await files.perform(groups.flat());
  let from = 0;
  return groups.map((group) => {
    const answered = results.slice(from, from + group.length);
    const isHung = answered.length < group.length && from <= results.length;
    from += group.length;
    return answered.length === group.length ? answered : isHung ? 'hung' : 'put-off';
  });
}

/** What the operations of one job came to. */
class Answers {
  readonly problems: string[] = [];
  readonly #data = new Map<string, string>();
  /** Whether something failed that will work again. */
  isPassing = false;

  constructor(operations: readonly FileOperation[], results: readonly FileResult[]) {
    for (const [at, operation] of operations.entries()) {
      const result = results[at];
      const { path } = operation;
      if (result?.ok === true) {
        if (result.data !== undefined) this.#data.set(path, result.data);
        if (operation.do === 'append' && !result.found) this.problems.push(`${path}: is not there`);
      } else if (result !== undefined && operation.do !== 'remove') {
        // A mark that stays is only a file too many.
        this.problems.push(`${path}: ${result.why}`);
        this.isPassing ||= PASSING.has(result.errno ?? '');
      }
    }
  }

  /** Bytes as latin1; undefined if the file is not there or cannot be read. */
  data(path: string | undefined): string | undefined {
    return path === undefined ? undefined : this.#data.get(path);
  }
}

type Decision =
  | (Extract<Tried, { result: 'done' }> & { writes: FileOperation[] })
  | { result: 'unsettled' }
  | { result: 'failed'; problem: string };

function decide(job: EndedJob, answers: Answers, directory: ControlDirectory): Decision {
  const { sessionDirectory, cancelled, batch } = job;
  const { problems } = answers;
  if (answers.isPassing && job.insist) return { result: 'failed', problem: problems.join('; ') };
  const own = diagOf(answers.data(sessionDirectory && `${sessionDirectory}.diag`));
  const comment = answers.data(sessionDirectory && `${sessionDirectory}.comment`);
  const ownExitCode = diagExitCode(own);
  const refused = isRefused(job.localId);
  if (ownExitCode === undefined && !job.settled && !refused) return { result: 'unsettled' };
  const lastWords =
    comment === undefined ? undefined : lastWordsOf(Buffer.from(comment, 'latin1').toString('utf8'));
  const outcome = refused
    ? refusalOf(diagValue(own, 'vmbatch_refusal'))
    : outcomeOf({
        ownExitCode,
        torque: batch,
        cancelled,
        lastWords,
        ownMessage: diagValue(own, 'LRMSMessage'),
      });
  const writes: FileOperation[] = [];
  if (sessionDirectory !== undefined) {
    const diag = mergeDiag(
      own,
      fallbacks(batch, ownExitCode, outcome),
      verdicts(batch, ownExitCode, outcome, lastWords),
    );
    writes.push(writeDiag(sessionDirectory, diag));
  }
  if (comment !== undefined && comment !== '') {
    const log = directory.jobFile(job.gridId, 'errors');
    writes.push(appendErrorsOnce(log, comment, batch?.id ?? job.localId));
  }
  // A submission that A-REX asks for again from here on is a new one, and not to find this job.
  if (sessionDirectory !== undefined) writes.push({ do: 'remove', path: markPath(sessionDirectory) });
  const said = diagValue(own, 'vmbatch_complaint');
  const complaint = said === undefined ? undefined : oneLine(decodeBytes(said.slice(0, 1200)));
  return { result: 'done', outcome, complaint, problems, writes };
}

/** What TORQUE knows of a job whose script did not come to writing it. Not its CPU time and memory: those are
 * of the process that waited for the guest. */
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

/** What scan knows better than the job: what TORQUE said, and that a job which was killed did not end
 * well. */
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
