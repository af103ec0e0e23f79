// Taking the node out of service and back, in TORQUE's eyes: pbsnodes, with a note that says why.
import { hostname } from 'node:os';
import { commandPath } from '../../batch/torque/commands.ts';
import { torqueOnNode } from '../../batch/torque/node-commands.ts';
import type { NodeConfig } from '../../node-file/config.ts';
import { printable } from '../../util/log.ts';
import { describeRun, type Run } from '../../util/processes/run.ts';
import { changeGuard, type GuardState } from './state.ts';

export interface OfflineOptions {
  state: string;
  /** TORQUE's name of the node: of the node file, or what the prologue was told. */
  node: string | undefined;
  /** Directory of pbsnodes; undefined: PATH, or where it usually is. */
  pbsBinPath: string | undefined;
  /** For tests: other folders than this machine's. */
  folders?: readonly string[];
  run: Run;
}

/** What the node file says. */
export function offlineOptions(
  { state, guard }: Pick<NodeConfig, 'state' | 'guard'>,
  run: Run,
): OfflineOptions {
  return { state, node: guard.node, pbsBinPath: guard.pbsBinPath, run };
}

const NOTE_LENGTH = 200;
/** A prologue may be waiting for it. */
const PBSNODES_MS = 10_000;

/** Writes down that the node is to be offline, tells TORQUE, and writes down what it said: who is killed in
 * between, or was not let, is followed by the reaper.
 * @returns the mark */
export async function takeOffline(
  options: OfflineOptions,
  reason: string,
  by: 'guard' | 'admin',
): Promise<NonNullable<GuardState['offline']>> {
  const { state } = options;
  const before = await changeGuard(state, (guard) => ({
    ...guard,
    node: options.node ?? guard.node ?? hostname(),
    offline: { since: guard.offline?.since ?? Date.now(), reason, by, mark: 'setting' },
  }));
  const problem = await pbsnodes(options, before, ['-o', '-N', noteOf(reason)]);
  const after = await changeGuard(state, (guard) => ({
    ...guard,
    ...(guard.offline === undefined
      ? {}
      : {
          offline: {
            ...guard.offline,
            mark: problem === undefined ? 'set' : 'refused',
            ...(problem === undefined ? {} : { problem }),
          },
        }),
  }));
  return after.offline ?? { since: Date.now(), reason, by, mark: 'set' };
}

/** The way back: faults are forgotten, TORQUE is told.
 * @returns what TORQUE had against it; undefined: nothing */
export async function bringBack(options: OfflineOptions): Promise<string | undefined> {
  const { state } = options;
  const before = await changeGuard(state, (guard) => ({
    ...guard,
    faults: [],
    ...(guard.offline === undefined ? {} : { offline: { ...guard.offline, mark: 'clearing' } }),
  }));
  const problem = await pbsnodes(options, before, ['-c', '-N', '']);
  if (problem === undefined) await changeGuard(state, ({ version, node }) => ({ version, faults: [], node }));
  return problem;
}

/** Tells TORQUE alone: nothing is remembered here, and `pbsnodes -c` brings the node back.
 * @returns what TORQUE had against it; undefined: nothing */
export function takeOfflineUnnoted(options: OfflineOptions, reason: string): Promise<string | undefined> {
  return pbsnodes(options, { version: 1, faults: [] }, ['-o', '-N', noteOf(reason)]);
}

const noteOf = (reason: string) => printable(`vmbatch: ${reason}`).slice(0, NOTE_LENGTH);

async function pbsnodes(
  { node, pbsBinPath, folders, run }: OfflineOptions,
  guard: GuardState,
  args: readonly string[],
): Promise<string | undefined> {
  const name = node ?? guard.node ?? hostname();
  const file = commandPath(torqueOnNode('pbsnodes', pbsBinPath, run, folders), 'pbsnodes');
  const result = await run(file, [...args, name], { timeoutMs: PBSNODES_MS });
  return result.exitCode === 0 ? undefined : describeRun(result);
}
