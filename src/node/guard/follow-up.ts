// What is to be done about a node that is offline, each time somebody looks after it: what a killed process
// did not come to, what TORQUE did not let us do, and the self-test that brings the node back.
import type { NodeConfig } from '../../node-file/config.ts';
import { toVmbatchError } from '../../util/errors.ts';
import type { Log } from '../../util/log.ts';
import { bringBack, type OfflineOptions, takeOffline } from './offline.ts';
import { changeGuard, hasGuardState, readGuard } from './state.ts';

/** @param test starts a guest; throws if it does not come up
 * @returns a line on what was done; undefined: there was nothing to do */
export async function followUp(
  options: OfflineOptions,
  settings: NodeConfig['guard'],
  test: () => Promise<number>,
  log: Log,
): Promise<string | undefined> {
  const { state } = options;
  if (!hasGuardState(state)) return undefined;
  const { offline, selfTest } = readGuard(state);
  if (offline === undefined) return undefined;
  if (offline.mark === 'clearing') {
    const problem = await bringBack(options);
    return problem === undefined
      ? 'the node is back in service'
      : `the node cannot be brought back: ${problem}`;
  }
  if (offline.mark !== 'set') {
    const { mark, problem } = await takeOffline(options, offline.reason, offline.by);
    return mark === 'set'
      ? `the node is offline: ${offline.reason}`
      : `the node cannot be taken offline: ${problem}`;
  }
  const isDue = Date.now() - Math.max(selfTest?.at ?? 0, offline.since) >= settings.selfTestMs;
  if (offline.by !== 'guard' || settings.comeBack !== 'self-test' || !isDue) return undefined;
  const at = Date.now();
  try {
    const seconds = await test();
    const problem = await bringBack(options);
    const what = `a guest started in ${seconds} s: the node comes back`;
    log.write(problem === undefined ? 'warn' : 'error', what, problem === undefined ? {} : { problem });
    return problem === undefined ? what : `${what}, but TORQUE does not let it: ${problem}`;
  } catch (thrown) {
    const problem = toVmbatchError(thrown, 'node').message;
    await changeGuard(state, (guard) => ({ ...guard, selfTest: { at, problem: problem.slice(0, 1000) } }));
    log.write('warn', `the self-test failed, the node stays offline: ${problem}`);
    return `the self-test failed, the node stays offline: ${problem}`;
  }
}
