// What is told of a start that failed, and to whom: the log, the guard, the job's owner.

import type { HookArguments } from '../../batch/torque/mom/hook-arguments.ts';
import { BUILT_IN_DEFAULTS, type NodeConfig } from '../../node-file/config.ts';
import { findAccount } from '../../util/accounts/account.ts';
import { FAULT_OUTCOMES, toVmbatchError, type VmbatchError } from '../../util/errors.ts';
import type { Log } from '../../util/log.ts';
import { run } from '../../util/processes/run.ts';
import { reportError } from '../../util/program/report.ts';
import { openHookLog } from '../environment.ts';
import { noteFault } from '../guard/watch.ts';
import type { CountedLog } from '../repeats/counted-log.ts';
import { leaveRefusal } from './refusal-left.ts';
import { noteRefusal } from './refusal-note.ts';

/** How far a prologue has come: what is not there yet is undefined. */
export interface StartAttempt {
  /** The state directory of the hooks. */
  state: string;
  /** The job, or its guest on another node than the first. */
  jobId: string;
  hook?: HookArguments;
  config?: NodeConfig;
  image?: string;
  log?: CountedLog;
  /** On another node than the job's first, which alone has its script. */
  isPeer: boolean;
}

/** An image that the node does not have is not there at the next attempt, whoever named it. */
export const prologueExitOf = ({ fault, code }: VmbatchError) =>
  code === 'image-unknown' ? FAULT_OUTCOMES.job.prologueExit : FAULT_OUTCOMES[fault].prologueExit;

/** Tells everybody who is to know. The caller closes the log of the attempt. */
export async function reportFailedStart(attempt: StartAttempt, error: VmbatchError): Promise<void> {
  const { hook, config, isPeer } = attempt;
  attempt.log ??= await openHookLog(config, { job: attempt.jobId, state: attempt.state });
  attempt.log.write(FAULT_OUTCOMES[error.fault].logLevel, error.message, {
    fault: error.fault,
    code: error.code,
    hint: error.hint,
    ...(error.fault === 'bug' ? { report: reportError(error) } : {}),
  });
  if (FAULT_OUTCOMES[error.fault].countsAgainstNode) await countAgainstNode(attempt, attempt.log, error);
  if (isPeer || hook === undefined || error.code === 'job-deleted') return;
  if (prologueExitOf(error) === 1) await noteFor(attempt, attempt.log, hook, reportError(error));
}

/** Also for a node file that is broken: that fails every job. */
async function countAgainstNode(
  { state, config, jobId, hook, image, isPeer }: StartAttempt,
  log: Log,
  error: VmbatchError,
): Promise<void> {
  const settings = config?.guard ?? {
    faults: BUILT_IN_DEFAULTS['guard.faults'],
    node: undefined,
    pbsBinPath: undefined,
  };
  // The job's first node, as TORQUE calls it; of the others it tells no name.
  const node = isPeer ? undefined : process.env['PBS_MSHOST'];
  const images = config?.images.size ?? 1;
  await noteFault(
    { state: config?.state ?? state, settings, images, node, run, log },
    { jobId: hook?.jobId ?? jobId, image, error },
  );
}

/** In the file that a grid job has for it; else by the epilogue, which can know where the output goes. */
async function noteFor({ state }: StartAttempt, log: Log, hook: HookArguments, text: string): Promise<void> {
  const account = await findAccount(hook.user).catch(() => undefined);
  // The user is not known to this node: nobody to tell.
  if (account === undefined || (await noteRefusal(hook.script, account, text))) return;
  try {
    leaveRefusal(state, hook, text);
  } catch (thrown) {
    const { message } = toVmbatchError(thrown, 'node');
    log.write('warn', `the owner of this refused job was not told why: ${message}`);
  }
}
