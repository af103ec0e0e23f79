// The processes of jobs, as /proc shows them.
import { readdirSync } from 'node:fs';
import { readIfThere } from '../support/files.ts';
import { commandLine } from './guests.ts';

/** Our processes of a job on its node.
 * @param what the command of vmbatch that it runs */
export function hookProcesses(jobId: string, what: 'prologue' | 'run' | 'epilogue'): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((entry) => {
      const words = commandLine(entry);
      if (words[2] !== what) return false;
      // The starter is told by its environment which job it is of.
      return what === 'run' ? environment(entry).includes(`PBS_JOBID=${jobId}`) : words.includes(jobId);
    })
    .map(Number);
}

/** The job starter of a job, as the mom sees it: the shell that she started, then its Node. */
export function starterProcesses(jobId: string): number[] {
  return hookProcesses(jobId, 'run').flatMap((pid) => {
    const words = commandLine(String(pid));
    return [Number(words[words.indexOf('--for') + 1]), pid];
  });
}

function environment(pid: string): string[] {
  try {
    return readIfThere(`/proc/${pid}/environ`).split('\0');
  } catch {
    return []; // not for us to see
  }
}

/** The process and all below it. */
export function family(pid: number): number[] {
  const children = readIfThere(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);
  return [pid, ...children.flatMap(family)];
}

/** No error if it has ended. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // between the look and the signal
  }
}
