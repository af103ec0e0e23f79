// Undoing all that a record speaks of: in reverse order, each step under its own deadline, whatever fails.
import { setTimeout as sleep } from 'node:timers/promises';
import { eachProcess } from '../../hypervisor/guest-process.ts';
import { VmbatchError as Failure, toVmbatchError, type VmbatchError } from '../../util/errors.ts';
import { KEEPER, removeJobDirectory, WATCHER, writeRecord } from '../record.ts';
import type { RecordedJob, Step } from './steps/step.ts';
import { STEPS } from './steps/table.ts';

export interface UndoFailure {
  step: string;
  error: VmbatchError;
}

/** Releases every step that was begun, then removes the record. What could not be released stays in the
 * record, for the next who tries.
 * @returns the failures; none means that nothing is left. */
export async function undo(job: RecordedJob): Promise<UndoFailure[]> {
  const failures: UndoFailure[] = [];
  for (const step of [...STEPS].reverse()) {
    const state = job.record.steps[step.name];
    if (state === undefined || state === 'released') continue;
    try {
      await withDeadline(step, job, job.record.undoMs);
      job.record.steps[step.name] = 'released';
    } catch (thrown) {
      failures.push({ step: step.name, error: toVmbatchError(thrown, 'node') });
    }
  }
  if (failures.length === 0) {
    endSleepers(job);
    removeJobDirectory(job.paths);
  } else writeRecord(job.paths, job.record);
  return failures;
}

/** The shells that would have looked after the job later, with what they sleep in. */
function endSleepers({ record, paths }: RecordedJob): void {
  if (record.keptUntil === undefined && (record.peers?.rank ?? 0) === 0) return;
  for (const { pid, words } of eachProcess())
    if ((words[3] === KEEPER || words[3] === WATCHER) && words.includes(paths.directory)) endGroup(pid);
}

function endGroup(leader: number): void {
  try {
    process.kill(-leader, 'SIGTERM');
  } catch {
    // it ended meanwhile
  }
}

async function withDeadline(step: Step, job: RecordedJob, deadlineMs: number): Promise<void> {
  const done = new AbortController();
  const late = sleep(deadlineMs, undefined, { signal: done.signal }).then(() => {
    throw new Failure({
      fault: 'node',
      code: 'undo-late',
      message: `undoing ${step.name} of job ${job.record.jobId} took more than ${deadlineMs / 1000} s`,
    });
  });
  try {
    await Promise.race([step.release(job), late]);
  } finally {
    done.abort();
    await late.catch(() => undefined);
  }
}
