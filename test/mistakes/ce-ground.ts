// A CE in a directory, looked at by `vmbatch check ce`.
import { checkCe } from '../../src/ce/check/check-ce.ts';
import { FAULT_OUTCOMES } from '../../src/util/errors.ts';
import type { FakeCe } from '../unit/ce/check/fake-ce.ts';
import { firstFinding } from './findings.ts';
import type { Sight } from './table.ts';

/** `vmbatch check ce`, run by root.
 * @param past rows that are not looked at */
export async function checkTheCe(ce: FakeCe, past: readonly string[] = []): Promise<Sight> {
  const results = await checkCe(ce.options);
  const isOk = results.every(({ state }) => state !== 'failed');
  return {
    ...firstFinding(
      'check ce',
      results.filter(({ check }) => !past.includes(check)),
    ),
    exit: isOk ? 0 : FAULT_OUTCOMES.site.commandExit,
  };
}
