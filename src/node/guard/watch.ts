// What hooks tell the guard: that a guest started, or that the node could not start one.
import type { NodeConfig } from '../../node-file/config.ts';
import { toVmbatchError } from '../../util/errors.ts';
import type { Log } from '../../util/log.ts';
import type { Run } from '../../util/processes/run.ts';
import { foreignOwner } from '../owner/state-owner.ts';
import { takeOffline, takeOfflineUnnoted } from './offline.ts';
import { changeGuard, hasGuardState, type NodeFault, readGuard } from './state.ts';
import { addFault, causes, comesAfterStart, countsAgainstNode, describeStreak } from './streak.ts';

export interface GuardOptions {
  state: string;
  settings: Pick<NodeConfig['guard'], 'faults' | 'node' | 'pbsBinPath'>;
  /** How many images the node has. */
  images: number;
  /** TORQUE's name of the node, as it told the hook. */
  node: string | undefined;
  run: Run;
  log: Log;
}

export interface FaultOfJob {
  jobId: string;
  /** Undefined: it did not come so far. */
  image: string | undefined;
  error: { code: string; message: string };
}

/** What went well: a guest started, a job ran in its guest, or (where the starter waits for the guest)
 * both. */
type Success = 'start' | 'run' | 'both';

/** What was before says nothing any more, as far as it is of the same kind. Never fails: it must not change
 * how the hook ends. */
export function noteSuccess(
  { state, log }: Pick<GuardOptions, 'state' | 'log'>,
  of: Success = 'both',
): Promise<void> {
  const stays = ({ code }: NodeFault) => of !== 'both' && comesAfterStart(code) === (of === 'start');
  return attempt(log, async () => {
    if (!hasGuardState(state) || readGuard(state).faults.every(stays)) return;
    await changeGuard(state, (guard) => ({ ...guard, faults: guard.faults.filter(stays) }));
  });
}

/** A fault of the node's; the last that is too many takes it offline. Never fails. */
export function noteFault(options: GuardOptions, fault: FaultOfJob): Promise<void> {
  return attempt(options.log, () => countFault(options, fault));
}

async function attempt(log: Log, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (thrown) {
    log.write('error', `the guard failed: ${toVmbatchError(thrown, 'node').message}`);
  }
}

async function countFault(
  { state, settings, images, node, run, log }: GuardOptions,
  { jobId, image, error }: FaultOfJob,
): Promise<void> {
  if (settings.faults === 0 || !countsAgainstNode(error.code)) return;
  const fault = { jobId, code: error.code, message: error.message.slice(0, 1000), at: Date.now() };
  const name = settings.node ?? node;
  const foreign = foreignOwner(state);
  if (foreign !== undefined) {
    // Every job fails for it, and the memory of faults in a row is another node's.
    const place = { state, node: name, pbsBinPath: settings.pbsBinPath, run };
    const problem = await takeOfflineUnnoted(place, foreign.message);
    const what = problem === undefined ? 'this node is taken offline' : 'this node should be offline';
    log.write('error', `${what}: ${foreign.message}`, { back: 'pbsnodes -c', problem });
    return;
  }
  const guard = await changeGuard(state, (before) => ({
    ...before,
    ...(name === undefined ? {} : { node: name }),
    faults: addFault(before.faults, { ...fault, ...(image === undefined ? {} : { image }) }),
  }));
  const isOffline = guard.offline !== undefined && guard.offline.mark !== 'refused';
  if (isOffline || causes(guard.faults, images) < settings.faults) return;
  const reason = describeStreak(guard.faults);
  const offline = await takeOffline(
    { state, node: name, pbsBinPath: settings.pbsBinPath, run },
    reason,
    'guard',
  );
  const facts = { last: error.message, back: 'vmbatch node enable' };
  if (offline.mark === 'set') log.write('error', `this node is taken offline: ${reason}`, facts);
  else
    log.write('error', `this node should be offline, and TORQUE did not let us: ${reason}`, {
      ...facts,
      problem: offline.problem,
      hint: 'make root of this node an operator of TORQUE, or let the mom ask: $node_check_script, vmbatch node health',
    });
}
