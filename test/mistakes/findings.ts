// What somebody reads first of the findings of `vmbatch check`.
import type { CheckResult } from '../../src/util/check.ts';
import type { Sight } from './table.ts';

/** The first that has failed; without one the first warning. */
export function firstFinding(where: string, results: readonly CheckResult[]): Omit<Sight, 'exit'> {
  const first =
    results.find(({ state }) => state === 'failed') ?? results.find(({ state }) => state === 'warning');
  if (first === undefined) return { where, text: '' };
  const { check, found, advice } = first;
  return { where: `${where}: ${check}`, text: advice === undefined ? found : `${found}\n-> ${advice}` };
}
