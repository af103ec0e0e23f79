// mom_priv/config and pbs_environment: the settings of a mom that matter to jobs.
import { readFileSync, statSync } from 'node:fs';
import type { Pair } from '../common/protocol.ts';

export interface MomConfig {
  /** `$prologalarm` as configured, in seconds. */
  prologAlarm: number;
  checkPollSeconds: number;
  jobStartBlockSeconds: number;
  jobStarter?: string | undefined;
  jobStarterPrivileged: boolean;
}

/** TORQUE reads no more of a line. */
const MAX_LINE = 118;

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** The last that exists and that its owner may execute: TORQUE passes over other lines as it reads them
 * (`jobstarter` in parse_config.c). */
function usableStarter(lines: readonly string[]): string | undefined {
  return lines.findLast((path) => ((statSync(path, { throwIfNoEntry: false })?.mode ?? 0) & 0o100) !== 0);
}

/** Read for each job, so that a change counts for the next one without a restart (TORQUE needs a signal). */
export function readMomConfig(path: string): MomConfig {
  const values = new Map<string, string>();
  const starters: string[] = [];
  for (const line of read(path).split('\n')) {
    const match = /^\s*\$(\w+)\s*(.*?)\s*$/.exec(line.slice(0, MAX_LINE).replace(/#.*$/, ''));
    if (match === null) continue;
    const [, name = '', value = ''] = match;
    values.set(name.toLowerCase(), value);
    if (name.toLowerCase() === 'job_starter') starters.push(value);
  }
  const seconds = (name: string, standard: number): number => {
    const value = Number(values.get(name) ?? standard);
    return Number.isFinite(value) && value >= 0 ? value : standard;
  };
  return {
    prologAlarm: seconds('prologalarm', 300),
    checkPollSeconds: Math.max(1, seconds('check_poll_time', 45)),
    jobStartBlockSeconds: seconds('jobstartblocktime', 5),
    jobStarter: usableStarter(starters),
    jobStarterPrivileged: /^(1|t|true|y|yes|on)$/i.test(values.get('job_starter_run_privileged') ?? ''),
  };
}

/** When the mom kills a hook: ten seconds before `$prologalarm`, or at it where that is ten or less. */
export function hookSeconds(prologAlarm: number): number {
  return Math.max(1, Math.floor(prologAlarm > 10 ? prologAlarm - 10 : prologAlarm));
}

/** `NAME=value` lines; a name alone is taken from the mom's own environment. */
export function readPbsEnvironment(path: string): Pair[] {
  return read(path)
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'))
    .map((line): Pair => {
      const equals = line.indexOf('=');
      return equals < 0 ? [line, process.env[line] ?? ''] : [line.slice(0, equals), line.slice(equals + 1)];
    });
}
