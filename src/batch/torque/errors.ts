// What the exit codes of TORQUE's client commands mean: its error numbers modulo 256, and a few of their own.
import type { TorqueCommand } from '../../util/error-codes.ts';
import { type Fault, VmbatchError, type VmbatchErrorInit } from '../../util/errors.ts';
import { describeRun, type RunResult } from '../../util/processes/run.ts';

/** One row of the table. */
export interface TorqueFailure {
  /** Kebab-case, becomes the `code` of the error. */
  code: string;
  fault: Fault;
  /** What TORQUE means by it. */
  meaning: string;
  hint?: string;
  /** The same call may succeed later. */
  passing: boolean;
}

const failure = (
  code: string,
  fault: Fault,
  meaning: string,
  { hint, passing = false }: { hint?: string; passing?: boolean } = {},
): TorqueFailure => ({ code, fault, meaning, passing, ...(hint === undefined ? {} : { hint }) });

/** By exit code, as recorded with TORQUE 6.1. */
const TORQUE_FAILURES: ReadonlyMap<number, TorqueFailure> = new Map([
  [1, failure('torque-refused', 'site', 'the command refused')],
  [2, failure('torque-usage', 'bug', 'the command did not understand its options or a #PBS line')],
  [27, failure('request-syntax', 'site', 'a node request is malformed')],
  [
    33,
    failure('trqauthd-down', 'site', 'trqauthd does not answer', {
      hint: 'start trqauthd on this machine',
      passing: true,
    }),
  ],
  [
    111,
    failure('server-down', 'site', 'the batch server does not answer', {
      hint: 'start pbs_server, or check server_name',
      passing: true,
    }),
  ],
  [153, failure('job-unknown', 'site', 'the server knows no such job')],
  [
    159,
    failure('not-authorised', 'site', 'the user may not do this', {
      hint: "check the queue's acl_users, submit_hosts and managers",
    }),
  ],
  [168, failure('value-illegal', 'job', 'a requested resource has an illegal value')],
  [170, failure('job-state', 'site', "the job's state does not allow this: it has ended")],
  [
    172,
    failure('queue-unknown', 'site', 'there is no such queue', {
      hint: 'check [lrms] lrms and the queue blocks of arc.conf against qstat -q',
    }),
  ],
  [
    175,
    failure('queue-disabled', 'site', 'the queue takes no jobs now', {
      hint: 'set its attribute enabled to True with qmgr',
      passing: true,
    }),
  ],
  [189, failure('resource-unknown', 'site', 'the server knows no such resource')],
  [
    190,
    failure('resources-exceeded', 'job', 'no node or the limits of the queue can ever satisfy the request'),
  ],
  // What older servers say, and what ARC's backend waits for.
  [198, failure('queue-full', 'site', 'the queue is full', { passing: true })],
  [200, failure('queue-full', 'site', 'the queue is full', { passing: true })],
  [224, failure('mom-unreachable', 'site', "the job's node does not answer the server", { passing: true })],
  [228, failure('queue-full-for-user', 'site', 'the queue is full for this user', { passing: true })],
]);

/** The meaning of a failed run; undefined for a code that is not in the table. */
export function torqueFailure(result: RunResult): TorqueFailure | undefined {
  return result.exitCode === undefined ? undefined : TORQUE_FAILURES.get(result.exitCode);
}

/** A failed run of one of TORQUE's commands. */
export class TorqueError extends VmbatchError {
  /** The same call may succeed later: the server, trqauthd or the job's node was away, or too slow. */
  readonly passing: boolean;

  constructor(init: VmbatchErrorInit & { passing: boolean }) {
    super(init);
    this.passing = init.passing;
  }
}

/** The error for a failed run of one of TORQUE's commands. Its `code` starts with the command:
 * `qsub-queue-full`.
 * @param subject for whom or what: `queue main`, `job 12.server` */
export function torqueError(command: TorqueCommand, result: RunResult, subject: string): TorqueError {
  const known = torqueFailure(result);
  const said = lastLine(result.stderr) ?? lastLine(result.stdout);
  const kind = result.notFound ? 'missing' : result.timedOut ? 'timeout' : (known?.code ?? 'failed');
  return new TorqueError({
    passing: known?.passing || result.timedOut || saysPassing(result.stderr),
    fault: known?.fault ?? 'site',
    code: `${command}-${kind}`,
    message:
      known === undefined
        ? `${command} for ${subject}: ${describeRun(result)}`
        : `${command} for ${subject}: ${known.meaning} (exit code ${result.exitCode}${said === undefined ? '' : `: ${said}`})`,
    hint: result.notFound
      ? `install TORQUE's commands, or set [lrms] pbs_bin_path to the folder that holds ${command}`
      : known?.hint,
  });
}

/** A server that hangs makes the commands give up after minutes, with a code that was not recorded; and like
 * ARC's backend we know a full queue by its words, whatever the code. */
function saysPassing(stderr: string): boolean {
  return /\btimed? ?out\b|maximum number of jobs/i.test(stderr);
}

/** A message is read by people; characters. */
const SAID_MAX = 300;

/** The last line that says something; usage texts are long, and their first line says what was wrong. */
function lastLine(text: string): string | undefined {
  const lines = text.split('\n').map((line) => line.trim());
  const usage = lines.findIndex((line) => line.startsWith('usage:'));
  return lines
    .slice(0, usage < 0 ? undefined : usage)
    .filter((line) => line !== '' && line !== '[exiting]')
    .at(-1)
    ?.slice(0, SAID_MAX);
}
