// When scan writes down what it knows, and what it takes over from the scan before it.
import type { LogPosition } from '../../batch/torque/server-log/follower.ts';
import { toVmbatchError } from '../../util/errors.ts';
import type { Absentees } from './absentees.ts';
import type { Complain } from './sources.ts';
import { readState, type ScanState, writeState } from './state.ts';
import type { Suspects } from './suspects.ts';
import { hintsAtEnd, type Traces } from './traces.ts';
import type { WatchList } from './watch.ts';

/** Milliseconds between writes of the state file. */
const SAVE_MS = 5_000;

/** How much of the log the next scan may have to read again. Bytes. */
const UNSAVED_LOG_BYTES = 4 * 1024 * 1024;

/** What of a control directory is written down. */
export interface Remembered {
  watch: WatchList;
  absentees: Absentees;
}

/** What the scan knows beside its jobs. */
export interface Progress {
  positions: LogPosition[] | undefined;
  /** Epoch milliseconds of the last comparison that the next scan may rely on; 0 if there is none. */
  comparedAt: number;
  /** TORQUE's list was compared since the last save, and that is worth writing down. */
  compared: boolean;
}

export class Saving {
  readonly #directories: readonly Remembered[];
  readonly #traces: Traces;
  readonly #complain: Complain;
  #savedAt = Number.NEGATIVE_INFINITY;
  #savedLog: string | undefined = '';

  constructor(directories: readonly Remembered[], traces: Traces, complain: Complain) {
    this.#directories = directories;
    this.#traces = traces;
    this.#complain = complain;
  }

  /** Takes over what an earlier scan wrote down about these very folders.
   * @returns for each control directory what it was */
  restore(suspects: Suspects, log: (line: string) => void): (ScanState | undefined)[] {
    const states = this.#directories.map(({ watch, absentees }) => {
      const state = readState(watch.directory.path, log);
      if (state === undefined || !watch.restore(state.processing, state.jobs)) return undefined;
      absentees.add(state.absent);
      for (const { localId, trace } of state.jobs)
        if (trace !== undefined) {
          this.#traces.set(localId, trace);
          suspects.add(localId);
        }
      return state;
    });
    if (states[0] !== undefined) this.#savedLog = logMark(states[0].log);
    return states;
  }

  /** Writes down what is worth it: jobs that changed, or much log that would be read again.
   * @param now even if it was done a moment ago
   * @returns whether it was done */
  save(progress: Progress, now: boolean): boolean {
    const mark = logMark(progress.positions);
    const dirty =
      progress.compared ||
      mark !== this.#savedLog ||
      this.#directories.some(({ watch, absentees }) => watch.dirty || absentees.dirty);
    if (!dirty || (!now && performance.now() - this.#savedAt < SAVE_MS)) return false;
    for (const [at, { watch, absentees }] of this.#directories.entries()) {
      const { path } = watch.directory;
      const about = `state of ${path}`;
      try {
        writeState(path, {
          processing: watch.identity,
          comparedAt: progress.comparedAt,
          jobs: [...watch.jobs.values()].map(({ gridId, localId, uid, gid, doubts }) => {
            const trace = this.#traces.get(localId);
            return { gridId, localId, uid, gid, doubts, trace: hintsAtEnd(trace) ? trace : undefined };
          }),
          absent: absentees.saved,
          log: at === 0 ? progress.positions : undefined,
        });
        watch.dirty = false;
        absentees.dirty = false;
        this.#complain(about, undefined);
      } catch (error) {
        this.#complain(about, `${path}: the state cannot be saved: ${toVmbatchError(error, 'site').message}`);
      }
    }
    this.#savedLog = mark;
    this.#savedAt = performance.now();
    return true;
  }
}

/** Changes when so much of the log was read that it is worth writing down. */
function logMark(positions: readonly LogPosition[] | undefined): string | undefined {
  const far = (offset: number) => Math.floor(offset / UNSAVED_LOG_BYTES);
  return JSON.stringify(positions?.map(({ inode, offset }) => [inode, far(offset)]));
}
