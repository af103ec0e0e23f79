// One line for each guest that was: what it was for, how long everything took, how it ended. JSON lines.
import { closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import type { Outcome } from '../guest/session-file.ts';
import type { Fault } from '../util/errors.ts';
import { writeAll } from '../util/files.ts';
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
  const fd = openSync(
    join(state, 'history.jsonl'),
    constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND,
    0o600,
  );
  try {
    writeAll(fd, Buffer.from(`${JSON.stringify(line)}\n`));
  } finally {
    closeSync(fd);
  }
}
