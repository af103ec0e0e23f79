// mom_priv/config and pbs_environment: the settings of a mom that matter to jobs.
import { readFileSync } from 'node:fs';
import type { Pair } from '../common/protocol.ts';

export interface MomConfig {
  /** `$prologalarm` as configured, in seconds. */
  prologAlarm: number;
  checkPollSeconds: number;
  jobStartBlockSeconds: number;
  jobStarter?: string | undefined;
  jobStarterPrivileged: boolean;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Read for each job, so that a change counts for the next one without a restart (TORQUE needs a signal). */
export function readMomConfig(path: string): MomConfig {
  const values = new Map<string, string>();
  for (const line of read(path).split('\n')) {
    const match = /^\s*\$(\w+)\s+(.*?)\s*$/.exec(line);
    if (match !== null) values.set(match[1] ?? '', match[2] ?? '');
  }
  const seconds = (name: string, standard: number): number => {
    const value = Number(values.get(name) ?? standard);
    return Number.isFinite(value) && value >= 0 ? value : standard;
  };
  return {
    prologAlarm: seconds('prologalarm', 300),
    checkPollSeconds: Math.max(1, seconds('check_poll_time', 45)),
    jobStartBlockSeconds: seconds('jobstartblocktime', 5),
    jobStarter: values.get('job_starter'),
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
