// How a job ended, from what it wrote itself and what TORQUE says: the one table of codes and texts for
// lrms_done.
import { decodeBytes } from '../../arc/text.ts';
import type { TorqueJob } from '../../batch/torque/answers/qstat.ts';
import { FAULT_OUTCOMES } from '../../util/errors.ts';
import { withoutForbidden } from '../../util/xml-characters.ts';

/** What the batch system knows of a job that is over, by `qstat -x` or by the server's log. */
export interface BatchRecord
  extends Pick<TorqueJob, 'id' | 'exitStatus' | 'nodes' | 'startTime' | 'completionTime' | 'errorPath'> {
  /** Seconds. */
  wallTime: number | undefined;
  /** `user@host` whose qdel was taken; only the server's log says. */
  deletedBy: string | undefined;
}

/** What is known of a job that is over. */
export interface Ending {
  /** From the session's `.diag`, written by the job's own script in the guest. */
  ownExitCode: number | undefined;
  /** TORQUE's record; undefined if the server no longer has one. */
  torque: Pick<BatchRecord, 'exitStatus' | 'deletedBy'> | undefined;
  /** A-REX was told to cancel it. */
  cancelled: boolean;
  /** Last line of the batch job's output, for jobs that did not get to run. */
  lastWords: string | undefined;
  /** `LRMSMessage` of the session's `.diag`: why the job's own script failed it. Byte string (latin1); the
   * file is the user's own. */
  ownMessage: string | undefined;
}

/** Content of lrms_done. Success for A-REX is the code `joboption_arg_code` (0 if absent). */
export interface Outcome {
  code: number;
  /** Empty for code 0. */
  text: string;
}

/** What TORQUE's own exit statuses mean: negative ones for what it did itself, 256 + N for death of signal
 * N. */
const TORQUE_ENDINGS: ReadonlyMap<number, string> = new Map([
  [-1, 'Job could not be started on its node'],
  [-2, 'Job could not be started: its guest was refused on the node'],
  [-3, 'Job could not be started on its node'],
  [-4, 'Job was aborted: the batch daemon of its node was restarted'],
  [-5, 'Job was aborted: the batch daemon of its node was restarted'],
  [-6, 'Job was aborted: the batch daemon of its node was restarted'],
  [-7, 'Job could not be restarted on its node'],
  [-8, 'Job could not be started: its script could not be executed'],
  [-9, 'Job could not be started: its output files could not be created'],
  [-10, 'Job was killed: it exceeded its memory limit'],
  [-11, 'Job was killed: it exceeded its wall-clock time limit'],
  [-12, 'Job was killed: it exceeded its CPU time limit'],
  [-13, 'Job could not be started on its node: no control group'],
  [-14, 'Job could not be started: no guest could be made on its node'],
  [FAULT_OUTCOMES.job.starterExit, 'Job could not be run: its request cannot be met'],
  [FAULT_OUTCOMES.node.starterExit, 'Job could not be run to its end: its node or guest failed'],
  [FAULT_OUTCOMES.site.starterExit, 'Job could not be run to its end: the site has a problem'],
  [FAULT_OUTCOMES.bug.starterExit, 'Job could not be run to its end: vmbatch itself failed'],
  [254, 'Job could not be started: its shell could not be executed'],
  [265, 'Job was killed by the batch system (SIGKILL)'],
  [271, 'Job was deleted from the batch system (qdel)'],
]);

/** SIGTERM, which is how qdel ends a job. */
const DELETED = 271;

/** A job over one of its limits: it may well have caught the signal and exited with a code of its own, even
 * 0. */
const LIMIT_KILLS: ReadonlySet<number> = new Set([-10, -11, -12]);

/** Exit codes of a job script that was ended by SIGKILL or SIGTERM: it did not choose them. */
const SIGNALLED = new Set([137, 143]);

/** The job's own exit code counts, whatever TORQUE says: a mom that was restarted reports 0 for everything.
 * Only a job that TORQUE or the user ended, and whose script says no more than that, gets TORQUE's verdict;
 * and one that was killed for a limit is never reported without saying so, nor as a success. */
export function outcomeOf({ ownExitCode, torque, cancelled, lastWords, ownMessage }: Ending): Outcome {
  const status = torque?.exitStatus;
  const endedByTorque = status !== undefined && (status < 0 || status > 255);
  const ownDecision = ownExitCode !== undefined && !SIGNALLED.has(ownExitCode);
  if (status !== undefined && LIMIT_KILLS.has(status)) {
    const code = ownDecision && ownExitCode !== 0 ? ownExitCode : status;
    return { code, text: said(TORQUE_ENDINGS.get(status) ?? '', lastWords) };
  }
  if (ownDecision || (ownExitCode !== undefined && !endedByTorque && !cancelled))
    return { code: ownExitCode, text: ownExitCode === 0 ? '' : ownWords(ownExitCode, ownMessage) };
  if (cancelled) {
    const code = status === undefined || status === 0 ? (ownExitCode ?? -1) : status;
    return { code, text: 'Job was deleted on request' };
  }
  if (torque === undefined)
    return { code: -1, text: 'Job was lost: the batch system no longer knows it, and it left no exit code' };
  const by = torque.deletedBy === undefined ? '' : ` by ${torque.deletedBy}`;
  if (status === undefined)
    return {
      code: -1,
      text: `Job was deleted from the batch system before it started${by === '' ? '' : `,${by}`}`,
    };
  if (status === 0 && by !== '')
    return { code: -1, text: `Job was deleted from the batch system (qdel)${by}` };
  if (status === 0)
    return {
      code: -1,
      text: said(
        'Job did not run to its end: the batch system reports exit code 0, but the job left none',
        lastWords,
      ),
    };
  const text = TORQUE_ENDINGS.get(status);
  if (status === DELETED) return { code: status, text: `${text}${by}` };
  if (text !== undefined)
    return { code: status, text: said(by === '' ? text : `${text}, deleted${by}`, lastWords) };
  if (status > 256) return { code: status, text: said(`Job died of signal ${status - 256}`, lastWords) };
  return { code: status, text: said(`Job left no exit code, the batch system reports ${status}`, lastWords) };
}

const ownWords = (code: number, message = '') =>
  oneLine(decodeBytes(message.slice(0, 600))).slice(0, 300) || `Job exited with code ${code}`;

const said = (text: string, lastWords: string | undefined) =>
  lastWords === undefined ? text : `${text}: ${lastWords}`;

/** The one line of lrms_done. */
export function renderLrmsDone({ code, text }: Outcome): string {
  const line = oneLine(text);
  return line === '' ? `${code}\n` : `${code} ${line}\n`;
}

/** A-REX publishes these texts in XML. */
export const oneLine = (text: string) => withoutForbidden(text.replaceAll(/[\p{Cc}\s]+/gu, ' ')).trim();

/** What `readComment` puts in place of the middle. */
const LEFT_OUT = /^\[\.\.\. \d+ bytes left out \.\.\.\]$/;

/** What a shell says of a signal: no reason. */
const ENDED = /^(Terminated|Killed)$/;

/** The last line of the output that says something, fit for a one-line message; TORQUE's about why it killed
 * the job if there is one, else ours about a fault, since its hint and cause follow it. */
export function lastWordsOf(output: string): string | undefined {
  const lines = output
    .split('\n')
    .map(oneLine)
    .filter((line) => line !== '' && !LEFT_OUT.test(line) && !ENDED.test(line));
  const line =
    lines.findLast((candidate) => candidate.startsWith('=>> PBS: ')) ??
    lines.findLast((candidate) => /^vmbatch: \w+ fault: /.test(candidate)) ??
    lines.at(-1);
  return line === undefined ? undefined : line.slice(0, 300);
}

/** What submit left in the session's `.diag` when it refused the job: `vmbatch_refusal=CODE TEXT`. The file
 * is the user's own, so it may say anything.
 * @param value byte string (latin1); undefined if it is not there */
export function refusalOf(value: string | undefined): Outcome {
  const { job, site } = FAULT_OUTCOMES;
  const [, digits, text] = /^(\d{1,3}) (.+)$/s.exec(value ?? '') ?? [];
  const code = [job.lrmsCode, site.lrmsCode].find((known) => String(known) === digits);
  if (code === undefined || text === undefined)
    return { code: site.lrmsCode, text: 'Job was refused when it was submitted; the reason cannot be read' };
  return { code, text: oneLine(decodeBytes(text.slice(0, 2000))) };
}

/** The exit code for A-REX's accounting if the job's own says that all went well although it did not: that of
 * a shell whose job got a SIGTERM, since A-REX takes a negative number for 0. */
export function accountedExitCode({ code }: Outcome): number {
  return code > 0 ? code : 143;
}
