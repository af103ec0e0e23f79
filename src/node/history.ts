// One line for each guest that was: what it was for, how long everything took, how it ended. JSON lines.
import { closeSync, constants, fstatSync, openSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Outcome } from '../guest/session/session-file.ts';
import type { Fault } from '../util/errors.ts';
import { writeAll } from '../util/files/files.ts';
import type { JobRecord } from './record.ts';

export interface HistoryEnd {
  /** TORQUE's exit status, where the epilogue tells it. */
  exitStatus?: number;
  /** What the job starter said; the mom may have forgotten. */
  outcome?: Outcome | undefined;
  fault?: Fault;
  code?: string;
  message?: string;
}

/** Tens of thousands of guests; as much again is in the file before. */
const MOST_BYTES = 32 * 1024 * 1024;

/** Appends the line with one write, so that lines of hooks that run side by side do not mix. */
export function appendHistory(state: string, record: JobRecord, end: HistoryEnd): void {
  const { jobId, user, queue, startedAt, request, guest, hypervisor, seconds } = record;
  const line = {
    jobId,
    user,
    queue,
    startedAt,
    endedAt: Date.now(),
    request,
    guest,
    hypervisor,
    seconds,
    ...end,
  };
  const path = join(state, 'history.jsonl');
  const fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND, 0o600);
  let size: number;
  try {
    writeAll(fd, Buffer.from(`${JSON.stringify(line)}\n`));
    size = fstatSync(fd).size;
  } finally {
    closeSync(fd);
  }
  if (size > MOST_BYTES) startAnew(path);
}

/** Keeps the old file under another name. Of two hooks that come to it at the same time, the second finds a
 * file that is small again: it looks right before. */
function startAnew(path: string): void {
  try {
    if (statSync(path).size > MOST_BYTES) renameSync(path, `${path}.1`);
  } catch {
    // It is long, and complete; the next hook tries again.
  }
}
