// `vmbatch check ce`: the table of what makes a CE's set-up complete.
import { setMaxListeners } from 'node:events';
import { type Check, type CheckResult, runChecks } from '../../util/check.ts';
import { CONFIGURATION_CHECKS } from './configuration.ts';
import { DIRECTORY_CHECKS } from './directories.ts';
import { INFORMATION_CHECKS } from './information.ts';
import { INSTALLATION_CHECKS } from './installation.ts';
import { type CeSite, type CeSiteOptions, openCeSite } from './site.ts';
import { TORQUE_CHECKS } from './torque.ts';

/** In the order in which an admin would set things up; a row stands after those that it needs. */
export const CE_CHECKS: readonly Check<CeSite>[] = [
  ...CONFIGURATION_CHECKS,
  ...INSTALLATION_CHECKS,
  ...TORQUE_CHECKS,
  ...DIRECTORY_CHECKS,
  ...INFORMATION_CHECKS,
];

/** For all rows together. */
const DEADLINE_MS = 8_000;

/** Looks at everything; changes nothing. Programs that still run at the end are stopped. */
export async function checkCe(options: CeSiteOptions): Promise<CheckResult[]> {
  const over = new AbortController();
  // As many programs as there are checks, and more, listen to it.
  setMaxListeners(0, over.signal);
  try {
    return await runChecks(CE_CHECKS, openCeSite(options, over.signal), options.deadlineMs ?? DEADLINE_MS);
  } finally {
    over.abort();
  }
}
