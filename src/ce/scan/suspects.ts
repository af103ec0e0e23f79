// Batch jobs that may be over: what the log said, what TORQUE answers about them, and until when to wait for
// more.
import type { LogEvent } from '../../batch/torque/server-log/server-log.ts';
import type { BatchRecord } from '../finish/outcome.ts';
import { type EndSources, IDS_A_CALL } from './sources.ts';
import { ageOf, hintsAtEnd, isFinal, judge, recordFromTrace, type Traces } from './traces.ts';

/** How long TORQUE may take to bring a job's output and the reason of its end, before it is reported without.
 * Milliseconds; ARC's pbs backend waits 200 s for a `.diag` that is brought. */
const SETTLE_MS = 15_000;
const SETTLE_WITHOUT_SHARE_MS = 200_000;

/** An end in the log of a job that TORQUE then has running for so long: it was started again.
 * Milliseconds. */
const RESTARTED_MS = 5_000;

/** Between questions for one job, from the second on; doubled each time. Milliseconds. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 10_000;

interface Suspect {
  /** Epoch milliseconds. */
  askAt: number;
  asked: number;
  /** The log is not enough. */
  mustAsk: boolean;
  failedAt: number | undefined;
}

/** A batch job that is over. `settled`: TORQUE has brought its output and forgotten its processes. `batch` is
 * undefined if nothing is known of it any more. */
export interface Over {
  localId: string;
  batch: BatchRecord | undefined;
  settled: boolean;
}

/** By batch job id. */
export class Suspects {
  readonly #traces: Traces;
  readonly #settleMs: number;
  readonly #suspects = new Map<string, Suspect>();

  constructor(traces: Traces, sharedFilesystem: boolean) {
    this.#traces = traces;
    this.#settleMs = sharedFilesystem ? SETTLE_MS : SETTLE_WITHOUT_SHARE_MS;
  }

  /** Whether there are some that only this process knows of: about the others, the log's words are written
   * down. */
  get unwritten(): boolean {
    return [...this.#suspects.keys()].some((localId) => !hintsAtEnd(this.#traces.get(localId)));
  }

  /** The log hints at its end. */
  add(localId: string): void {
    this.#get(localId);
  }

  /** The log is not enough: TORQUE must say what became of it. */
  doubt(localId: string): void {
    this.#get(localId).mustAsk = true;
  }

  /** A line of the log about it: the next answer may be another one. */
  hear(event: LogEvent): void {
    const suspect = this.#get(event.jobId);
    if (event.kind === 'ended') Object.assign(suspect, { askAt: 0, asked: 0 });
  }

  /** It could not be reported. */
  fail(localId: string, now = Date.now()): void {
    const suspect = this.#get(localId);
    suspect.mustAsk = true;
    suspect.failedAt ??= now;
    suspect.askAt = now + 1_000;
  }

  /** Since when it cannot be reported. */
  failedAt(localId: string): number | undefined {
    return this.#suspects.get(localId)?.failedAt;
  }

  forget(localId: string): void {
    this.#suspects.delete(localId);
  }

  /** By the log alone.
   * @param isWatched whether anybody waits for this job
   * @returns jobs that are over, and whether there are some whose output is about to be brought */
  judge(isWatched: (localId: string) => boolean, now = Date.now()): { over: Over[]; soon: boolean } {
    const over: Over[] = [];
    let soon = false;
    for (const [localId, suspect] of this.#suspects) {
      if (!isWatched(localId)) {
        this.#suspects.delete(localId);
        continue;
      }
      const trace = this.#traces.get(localId);
      if (suspect.mustAsk || suspect.askAt > now || !hintsAtEnd(trace)) continue;
      const verdict = judge(trace, now);
      if (verdict === 'soon') soon = true;
      else if (verdict === 'ask') suspect.mustAsk = true;
      else over.push({ localId, batch: recordFromTrace(localId, trace), settled: trace.dequeued === true });
    }
    return { over, soon };
  }

  /** Asks TORQUE about whom the log is not enough, in one call; those that waited longest first.
   * @param onAlive told of a job that runs on and was suspected for nothing */
  async ask(sources: EndSources, onAlive: (localId: string) => void): Promise<Over[]> {
    const asked = Date.now();
    const due = [...this.#suspects]
      .filter(([, { mustAsk, askAt }]) => mustAsk && askAt <= asked)
      .sort(([, one], [, other]) => one.askAt - other.askAt)
      .slice(0, IDS_A_CALL);
    if (due.length === 0) return [];
    const answers = await sources.ask(
      due.map(([localId]) => localId),
      // The others were looked for in TORQUE's list, or the log told of them.
      (localId) => this.#traces.otherName(localId) !== undefined,
    );
    const now = Date.now();
    const over: Over[] = [];
    for (const [localId, suspect] of due) {
      const trace = this.#traces.get(localId);
      const batch = hintsAtEnd(trace) ? recordFromTrace(localId, trace) : undefined;
      const complete = answers?.complete.get(localId);
      const state = answers?.alive.get(localId)?.state;
      suspect.askAt = now + Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(suspect.asked++, 6));
      if (complete !== undefined)
        over.push({ localId, batch: { ...complete, deletedBy: trace?.deletedBy }, settled: true });
      else if (answers?.unknown.has(localId)) over.push({ localId, batch, settled: true });
      else if (state !== undefined && !hintsAtEnd(trace)) {
        this.#suspects.delete(localId);
        onAlive(localId);
      } else if (state !== undefined && state !== 'E' && trace?.exitStatus !== undefined) {
        if (ageOf(trace, now) < RESTARTED_MS) continue;
        delete trace.exitStatus;
        this.#suspects.delete(localId);
      } else if (trace !== undefined && isFinal(trace) && ageOf(trace, now) >= this.#settleMs)
        over.push({ localId, batch, settled: true });
    }
    return over;
  }

  #get(localId: string): Suspect {
    const known = this.#suspects.get(localId);
    if (known !== undefined) return known;
    const suspect = { askAt: 0, asked: 0, mustAsk: false, failedAt: undefined };
    this.#suspects.set(localId, suspect);
    return suspect;
  }
}
