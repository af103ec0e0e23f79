// What the server's log said of batch jobs, and what that is worth: is a job over, or who is to be asked?
import { JobIds } from '../../batch/torque/job-id.ts';
import type { LogEvent } from '../../batch/torque/server-log/server-log.ts';
import type { BatchRecord } from '../finish/outcome.ts';
import type { JobTrace } from './state.ts';

/** Jobs may end before A-REX has written down their ids, and other people's jobs are in the log too. */
const MAX_TRACES = 50_000;

/** TORQUE logs the end before it delivers the job's output, which takes it a moment. Milliseconds. */
export const DELIVERY_MS = 200;

/** Exit statuses with which TORQUE may start the job again. */
const MAY_BE_RETRIED: ReadonlySet<number> = new Set([-3, -4, -5, -6, -13, -14]);

/** `over`: report it. `soon`: look again after DELIVERY_MS. `ask`: only TORQUE can tell, or is still busy
 * with it. */
export type Verdict = 'over' | 'soon' | 'ask';

/** Traces by batch job id. When there are too many, the oldest quarter of those that nobody waits for is
 * dropped: all at once, since going over what was dropped before takes a Map longer each time. */
export class Traces {
  readonly #isWatched: (localId: string) => boolean;
  readonly #traces = new Map<string, JobTrace>();
  #limit = MAX_TRACES;

  constructor(isWatched: (localId: string) => boolean) {
    this.#isWatched = isWatched;
  }

  get(localId: string): JobTrace | undefined {
    return this.#traces.get(localId);
  }

  set(localId: string, trace: JobTrace): void {
    this.#traces.set(localId, trace);
  }

  forget(localId: string): void {
    this.#traces.delete(localId);
  }

  /** Ids of all jobs that the log told of. */
  ids(): JobIds {
    return new JobIds(this.#traces.keys());
  }

  /** What the log calls a job of ours, if that is not our id of it. */
  otherName(localId: string): string | undefined {
    return this.#traces.get(localId)?.as;
  }

  /** The lines about this job name another id. */
  nameOtherwise(localId: string, as: string): void {
    const trace = this.#traces.get(localId);
    if (trace === undefined) this.#traces.set(localId, { as });
    else trace.as = as;
  }

  /** What was heard of one id was about another one. */
  rename(from: string, localId: string): void {
    const trace = this.#traces.get(from);
    if (trace === undefined) return;
    this.#traces.delete(from);
    this.#traces.set(localId, { ...trace, as: from });
  }

  /** @returns whether the line hints at the end of the job */
  note(event: LogEvent): boolean {
    let trace = this.#traces.get(event.jobId);
    if (trace === undefined) {
      if (this.#traces.size >= this.#limit) this.#dropOldest();
      trace = {};
      this.#traces.set(event.jobId, trace);
    }
    switch (event.kind) {
      case 'enqueued':
        trace.enqueued = true;
        return false;
      case 'started':
        trace.started = true;
        // Started again: what was said of an end before is over.
        delete trace.exitStatus;
        return false;
      case 'deleted':
        trace.deletedBy = event.by ?? 'somebody';
        break;
      case 'dequeued':
        trace.dequeued = true;
        break;
      case 'ended':
        if (event.exitStatus !== undefined) trace.exitStatus = event.exitStatus;
        if (event.used.wallTime !== undefined) trace.wallTime = event.used.wallTime;
        break;
    }
    // The end of a job is not when TORQUE forgot it.
    if (event.time !== undefined && (event.kind !== 'dequeued' || trace.time === undefined))
      trace.time = event.time;
    return true;
  }

  #dropOldest(): void {
    let dropped = 0;
    for (const localId of this.#traces.keys()) {
      if (dropped >= MAX_TRACES / 4) break;
      if (this.#isWatched(localId)) continue;
      this.#traces.delete(localId);
      dropped++;
    }
    // If nearly all are waited for, there is not much to drop, and no use in trying again at once.
    this.#limit = Math.max(MAX_TRACES, this.#traces.size + MAX_TRACES / 4);
  }
}

/** Whether the log hints at the job's end. */
export function hintsAtEnd(trace: JobTrace | undefined): trace is JobTrace {
  return (
    trace !== undefined &&
    (trace.exitStatus !== undefined || trace.deletedBy !== undefined || trace.dequeued === true)
  );
}

/** What the log alone says about a job with such a hint. */
export function judge(trace: JobTrace, now: number): Verdict {
  if (trace.dequeued) return 'over';
  const soonOrOver = ageOf(trace, now) < DELIVERY_MS ? 'soon' : 'over';
  if (trace.exitStatus !== undefined)
    // A job that was killed has its reason in the output that TORQUE delivers.
    return trace.exitStatus >= 0 && trace.exitStatus <= 255 ? soonOrOver : 'ask';
  // The same line for a job that waited, which is then gone, and for one that runs and ends later.
  return trace.enqueued && !trace.started ? soonOrOver : 'ask';
}

/** Whether the log is enough if TORQUE does not answer. */
export function isFinal(trace: JobTrace): boolean {
  return trace.dequeued === true || (trace.exitStatus !== undefined && !MAY_BE_RETRIED.has(trace.exitStatus));
}

/** Milliseconds since the line; a line without a time, or from a clock that is ahead, is as old as can be. */
export function ageOf(trace: JobTrace, now: number): number {
  const age = trace.time === undefined ? Number.POSITIVE_INFINITY : now - trace.time;
  return age < -1_000 ? Number.POSITIVE_INFINITY : age;
}

/** The record of a job that TORQUE may have forgotten. */
export function recordFromTrace(localId: string, trace: JobTrace): BatchRecord {
  const end = trace.time === undefined ? undefined : Math.floor(trace.time / 1000);
  return {
    id: localId,
    exitStatus: trace.exitStatus,
    nodes: [],
    startTime: end === undefined || trace.wallTime === undefined ? undefined : end - trace.wallTime,
    completionTime: end,
    errorPath: undefined,
    wallTime: trace.wallTime,
    deletedBy: trace.deletedBy,
  };
}
