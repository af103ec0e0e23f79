// Scan: finds the batch jobs that ended and reports them to A-REX, for as long as it is let.
import { setImmediate, setTimeout } from 'node:timers/promises';
import { toVmbatchError } from '../../util/errors.ts';
import { Scanner, type ScanOptions } from './pass.ts';

export type { ScanOptions } from './pass.ts';

/** Milliseconds between passes. With TORQUE's log followed, the first is what an end waits for at most. */
const TICK_WITH_LOG_MS = 100;
const TICK_MS = 500;

/** However much work there is. */
const MAX_REST_MS = 2_000;

/** Passes may take one part in so many of the time. */
const SHARE_OF_TIME = 20;

/** Scans until `signal` is aborted. Never ends of itself: A-REX would start it again only some seconds later.
 * @throws VmbatchError `site` if a control directory is none at the start */
export async function scan(options: ScanOptions): Promise<void> {
  const scanner = new Scanner(options);
  const pause = { signal: options.signal };
  let complaint = '';
  while (!options.signal.aborted) {
    const before = process.cpuUsage();
    try {
      await scanner.pass();
      complaint = '';
    } catch (error) {
      // Jobs that end must be reported after a slip of ours as well, if not in this pass.
      const { message, stack = '' } = toVmbatchError(error, 'site');
      if (complaint !== message) options.log(`a pass failed: ${message} ${stack}`);
      complaint = message;
    }
    if (scanner.isBehind) {
      await setImmediate();
      continue;
    }
    const tick = scanner.followsLog ? TICK_WITH_LOG_MS : Math.min(TICK_MS, options.intervalMs ?? TICK_MS);
    const { user, system } = process.cpuUsage(before);
    const rest = Math.max(tick, ((user + system) / 1000) * SHARE_OF_TIME);
    await setTimeout(Math.min(rest, MAX_REST_MS), undefined, pause).catch(() => undefined);
  }
  await scanner.end();
}

/** Looks at every job once; what is unclear then stays for the next time.
 * @returns grid ids of the jobs that were reported
 * @throws VmbatchError `site` if a control directory is none */
export async function scanOnce(options: ScanOptions): Promise<string[]> {
  return await new Scanner(options).onlyPass();
}
