// The checks of `vmbatch check`: what one is, and running all of them at once, each within its time.
import { toVmbatchError } from './errors.ts';

/** `skipped`: could not be looked at, and `found` says why. */
export type CheckState = 'ok' | 'warning' | 'failed' | 'skipped';

/** One thing that a check found out. */
export interface Finding {
  state: CheckState;
  /** What there is, naming the thing: one line. */
  found: string;
  /** What to do about it: one line. */
  advice?: string;
}

/** One row of the table of checks. */
export interface Check<Site> {
  /** Stable, kebab-case: for machines, and for the rows that need this one. */
  name: string;
  /** What is asked, for the documentation and the reader of the code. */
  about: string;
  /** Rows without which this one has nothing to look at; it is skipped if one of them failed or was
   * skipped. */
  needs?: readonly string[];
  check: (site: Site) => Promise<Finding | Finding[]> | Finding | Finding[];
}

/** A finding and the row that it comes from. */
export interface CheckResult extends Finding {
  check: string;
}

export const ok = (found: string): Finding => ({ state: 'ok', found });
export const skipped = (found: string): Finding => ({ state: 'skipped', found });
export const warning = (found: string, advice: string): Finding => ({ state: 'warning', found, advice });
export const failed = (found: string, advice: string): Finding => ({ state: 'failed', found, advice });

/** Runs all rows, each as soon as those that it needs are done.
 * @param checks a row stands after those that it needs
 * @param deadlineMs for all of them together: what has not answered by then has failed
 * @returns the findings in the order of the rows, at least one a row. Never rejects. */
export async function runChecks<Site>(
  checks: readonly Check<Site>[],
  site: Site,
  deadlineMs: number,
): Promise<CheckResult[]> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Finding>((resolve) => {
    const advice = 'look whether the disk, the share, the name service or the batch server hangs';
    const found = `no answer within ${(deadlineMs / 1000).toFixed(0)} s`;
    timer = setTimeout(() => resolve(failed(found, advice)), deadlineMs);
  });
  const running = new Map<string, Promise<Finding[]>>();
  for (const row of checks) running.set(row.name, answer(row, site, running, late).then(list));
  const results: CheckResult[] = [];
  for (const { name } of checks)
    for (const finding of (await running.get(name)) ?? []) results.push({ check: name, ...finding });
  clearTimeout(timer);
  return results;
}

async function answer<Site>(
  row: Check<Site>,
  site: Site,
  running: ReadonlyMap<string, Promise<Finding[]>>,
  late: Promise<Finding>,
): Promise<Finding | Finding[]> {
  for (const name of row.needs ?? []) {
    const findings = (await running.get(name)) ?? [];
    if (findings.some(({ state }) => state === 'failed' || state === 'skipped'))
      return skipped(`needs ${name}`);
  }
  try {
    // Not around what is needed: its being late is said once.
    return await Promise.race([row.check(site), late]);
  } catch (thrown) {
    return failure(thrown);
  }
}

/** What was thrown by a look, as its finding. */
export function failure(thrown: unknown): Finding {
  const { message, hint } = toVmbatchError(thrown, 'site');
  return failed(message, hint ?? 'see the message');
}

const list = (found: Finding | Finding[]): Finding[] => (Array.isArray(found) ? found : [found]);
