// What scan does for one job that is over: complete the session's `.diag`, pass on its output, then write lrms_done.
import type { ControlDirectory } from '../arc/control-directory.ts';
import { type Diag, diagExitCode, diagTime, mergeDiag } from '../arc/diag.ts';
import type { TorqueJob } from '../torque/qstat.ts';
import type { Account } from '../util/as-user.ts';
import { toVmbatchError } from '../util/errors.ts';
import { writeFileAtomic } from '../util/files.ts';
import { appendErrors, readComment, readDiag, writeDiag } from './job-record.ts';
import { lastWordsOf, type Outcome, outcomeOf, renderLrmsDone } from './outcome.ts';

/** A job in state INLRMS or CANCELING. Paths are text. */
export interface ScannedJob {
  gridId: string;
  account: Account;
  /** Undefined: A-REX does not say. */
  sessionDirectory: string | undefined;
  localId: string | undefined;
  cancelled: boolean;
}

/** What happened, for scan's log. */
export interface Finished {
  outcome: Outcome;
  /** What could not be read or written; the job is reported all the same. */
  problems: string[];
}

/** Reports a job as ended.
 * @param torque TORQUE's record; undefined if it has none
 * @param insist throw rather than report without the job's own record, since it may be readable later
 * @throws VmbatchError if `insist` is set and the session's `.diag` cannot be read or written; whatever prevents
 * lrms_done from being written */
export function finishJob(
  job: ScannedJob,
  directory: ControlDirectory,
  torque: TorqueJob | undefined,
  insist: boolean,
): Finished {
  const { account, sessionDirectory, cancelled } = job;
  const problems: string[] = [];
  const attempt = <T>(work: () => T, must = false): T | undefined => {
    try {
      return work();
    } catch (error) {
      if (must) throw error;
      problems.push(toVmbatchError(error).message);
      return undefined;
    }
  };

  let own: Diag = [];
  let comment: Buffer | undefined;
  if (sessionDirectory !== undefined) {
    own = attempt(() => readDiag(account, `${sessionDirectory}.diag`), insist) ?? [];
    comment = attempt(() => readComment(account, `${sessionDirectory}.comment`));
  }
  const ownExitCode = diagExitCode(own);
  const lastWords = comment === undefined ? undefined : lastWordsOf(comment.toString('utf8'));
  const outcome = outcomeOf({ ownExitCode, torque, cancelled, lastWords });
  if (sessionDirectory !== undefined) {
    const diag = mergeDiag(own, fallbacks(torque, ownExitCode, outcome), verdicts(torque));
    attempt(() => writeDiag(account, `${sessionDirectory}.diag`, diag), insist);
  }
  if (comment !== undefined && comment.length > 0) {
    const output = Buffer.concat([
      Buffer.from(`--- output of batch job ${torque?.id ?? job.localId ?? '(unknown)'}\n`),
      comment,
      Buffer.from(comment.at(-1) === 0x0a ? '--- end of output\n' : '\n--- end of output\n'),
    ]);
    const log = directory.jobFile(job.gridId, 'errors');
    if (attempt(() => appendErrors(account, log, output)) === false) problems.push(`${log}: is not there`);
  }
  // Last and whole: an empty lrms_done would count as success.
  writeFileAtomic(directory.jobFile(job.gridId, 'lrms_done'), renderLrmsDone(outcome), 0o600);
  return { outcome, problems };
}

/** What TORQUE knows of a job whose script did not come to writing it. Not its CPU time and memory: those are of
 * the process that waited for the guest. */
function fallbacks(torque: TorqueJob | undefined, ownExitCode: number | undefined, { code }: Outcome): Diag {
  const pairs: [string, string][] = [];
  for (const { host } of torque?.nodes ?? []) pairs.push(['nodename', host]);
  const slots = torque?.nodes.reduce((sum, node) => sum + node.slots, 0) ?? 0;
  if (slots > 0) pairs.push(['Processors', String(slots)]);
  if (torque?.used.wallTime !== undefined) pairs.push(['WallTime', `${torque.used.wallTime}s`]);
  if (torque?.startTime !== undefined) pairs.push(['LRMSStartTime', diagTime(torque.startTime)]);
  if (torque?.startTime !== undefined && torque.completionTime !== undefined)
    pairs.push(['LRMSEndTime', diagTime(torque.completionTime)]);
  // A-REX cuts numbers at the first character that is no digit: -11 would become 0, success.
  if (ownExitCode === undefined && code > 0) pairs.push(['exitcode', String(code)]);
  return pairs;
}

function verdicts(torque: TorqueJob | undefined): Diag {
  return torque?.exitStatus === undefined ? [] : [['LRMSExitcode', String(torque.exitStatus)]];
}
