// The jobs of one control directory whose end A-REX waits for, kept up to date with as little reading as
// possible.
import type { ControlDirectory } from '../../arc/control-directory.ts';
import { localIdOf } from '../../arc/local.ts';
import { isRefused } from '../../arc/refused-id.ts';
import { JobIds } from '../../batch/torque/job-id.ts';
import { errnoOf, toVmbatchError } from '../../util/errors.ts';
import { removeStale } from '../finish/lrms-done.ts';
import { isAsSaved, type KnownJob, type SavedAbsentee, type SavedJob } from './state.ts';

/** A job that is in TORQUE's hands, as far as is known: whether A-REX still waits for it is asked before
 * anything is done about it, not before. */
export interface WatchedJob extends KnownJob {
  /** Passes in a row in which TORQUE did not list it. */
  doubts: number;
  /** The last listing of `processing/` that had it. */
  present: number;
  /** The last comparison in which TORQUE listed it. */
  listed: number;
  watch: WatchList;
}

const NONE: readonly WatchedJob[] = [];

/** Watched jobs of all control directories by the id of their batch job. Two grid jobs may name the same
 * one. */
export class JobIndex {
  readonly #jobs = new Map<string, WatchedJob[]>();
  readonly #ids = new JobIds();

  /** Ids of watched jobs that may mean the same job as this one. */
  like(id: string): readonly string[] {
    return this.#ids.like(id);
  }

  get(localId: string): readonly WatchedJob[] {
    return this.#jobs.get(localId) ?? NONE;
  }

  add(job: WatchedJob): void {
    const known = this.#jobs.get(job.localId);
    if (known !== undefined) {
      known.push(job);
      return;
    }
    this.#jobs.set(job.localId, [job]);
    if (!isRefused(job.localId)) this.#ids.add(job.localId);
  }

  remove(job: WatchedJob): void {
    const left = this.get(job.localId).filter((other) => other !== job);
    if (left.length === 0) {
      this.#jobs.delete(job.localId);
      this.#ids.delete(job.localId);
    } else this.#jobs.set(job.localId, left);
  }
}

/** What a look at `processing/` found. */
export interface WatchChanges {
  /** Jobs that are watched from now on. */
  added: WatchedJob[];
  /** Jobs that A-REX took out of `processing/` although their end was not reported. */
  left: SavedAbsentee[];
  /** Only at the first look: grid ids of jobs that were reported before, maybe without A-REX having been
   * told. */
  reported: string[];
}

/** A change within the clock's grain of a listing may have been missed by it. Milliseconds. */
const CLOCK_GRAIN_MS = 100;

/** What the jobs of `processing/` are to us. Reading a job's files costs more than everything else about it,
 * so they are read when the job appears and before it is reported; in between its name in the folder is all
 * that is looked at. Jobs that are not watched (not submitted yet, reported, on their way out) are few, and
 * looked at each time. */
export class WatchList {
  readonly directory: ControlDirectory;
  readonly jobs = new Map<string, WatchedJob>();
  /** In `processing/` but not watched. */
  #others = new Set<string>();
  /** In `processing/`, and never to be touched. */
  readonly #ignored = new Set<string>();
  readonly #index: JobIndex;
  readonly #complain: (about: string, complaint: string) => void;
  #identity: string | undefined;
  #listedMtime = -1;
  #listedAt = 0;
  #listings = 0;
  #asSaved = false;
  /** Something changed that the state file should have. */
  dirty = false;

  constructor(
    directory: ControlDirectory,
    index: JobIndex,
    complain: (about: string, complaint: string) => void,
  ) {
    this.directory = directory;
    this.#index = index;
    this.#complain = complain;
  }

  get identity(): string {
    return this.#identity ?? '';
  }

  /** Takes over what an earlier scan knew of this very folder.
   * @returns false if it was about another one */
  restore(processing: string, jobs: readonly SavedJob[]): boolean {
    const { identity } = this.directory.processingStamp();
    if (identity !== processing) return false;
    this.#identity = identity;
    this.#asSaved = isAsSaved(this.directory.path);
    for (const { gridId, localId, uid, gid, doubts } of jobs)
      this.#add({ gridId, localId, uid, gid, doubts, present: 0, listed: 0, watch: this });
    return true;
  }

  /** Compares with `processing/`.
   * @throws VmbatchError `site` or a system error if it cannot be read: nothing is known to have changed
   * then */
  look(now = Date.now()): WatchChanges {
    const changes: WatchChanges = { added: [], left: [], reported: [] };
    const { identity, mtimeMs } = this.directory.processingStamp();
    // Nothing is known yet, and nearly all jobs are awaited ones: their states can wait until something is
    // done.
    const cold = this.#identity === undefined;
    if (this.#identity !== identity) {
      // Another file system in its place, or none where one was: its jobs did not leave, they are out of
      // sight.
      if (this.#identity !== undefined)
        this.#complain('identity', `${this.directory.path}: is another folder now`);
      for (const gridId of this.jobs.keys()) this.forget(gridId);
      this.#others.clear();
      this.#listedMtime = -1;
      this.#identity = identity;
    }
    if (mtimeMs !== this.#listedMtime || this.#listedAt - mtimeMs < CLOCK_GRAIN_MS) {
      const listing = ++this.#listings;
      const others = new Set<string>();
      for (const gridId of this.directory.listProcessing()) {
        const job = this.jobs.get(gridId);
        if (job === undefined) others.add(gridId);
        else job.present = listing;
      }
      for (const { gridId, localId, uid, gid, present } of this.jobs.values())
        if (present !== listing) {
          this.forget(gridId);
          changes.left.push({ gridId, localId, uid, gid, leftAt: now });
        }
      for (const gridId of this.#ignored) if (!others.delete(gridId)) this.#ignored.delete(gridId);
      this.#others = others;
      this.#listedMtime = mtimeMs;
      this.#listedAt = now;
      if (listing === 1) changes.reported.push(...this.#clearUp());
    }
    for (const gridId of this.#others) {
      const known = this.#readJob(gridId, cold);
      if (known === undefined) continue;
      this.#others.delete(gridId);
      const job = { ...known, doubts: 0, present: 0, listed: 0, watch: this };
      this.#add(job);
      changes.added.push(job);
      this.dirty = true;
    }
    return changes;
  }

  /** Stops to watch a job: it was reported, or A-REX does not wait for it. If it is still in `processing/` it
   * is watched again as soon as A-REX waits for it. */
  release(gridId: string): void {
    this.forget(gridId);
    this.#others.add(gridId);
  }

  /** Never looks at a job again, for as long as it is in `processing/`. */
  ignore(gridId: string): void {
    this.forget(gridId);
    this.#ignored.add(gridId);
  }

  forget(gridId: string): void {
    const job = this.jobs.get(gridId);
    if (job === undefined) return;
    this.jobs.delete(gridId);
    this.#index.remove(job);
    this.dirty = true;
  }

  #add(job: WatchedJob): void {
    this.jobs.set(job.gridId, job);
    this.#index.add(job);
  }

  /** INLRMS or CANCELING, and not reported yet; else undefined. */
  awaitedState(gridId: string): 'INLRMS' | 'CANCELING' | undefined {
    const status = this.directory.readStatus(gridId);
    if (status !== 'INLRMS' && status !== 'CANCELING') return undefined;
    return this.directory.hasFile(gridId, 'lrms_done') ? undefined : status;
  }

  /** After a scan that was killed in the middle of a report.
   * @returns jobs that A-REX has still to take over */
  #clearUp(): string[] {
    try {
      if (this.#asSaved && !this.directory.hasNested) return [];
      const all = () => [...this.jobs.keys(), ...this.#others];
      const { reported, temporary } = this.directory.findLeftovers(all);
      for (const path of temporary) removeStale(path);
      for (const gridId of reported) if (this.jobs.has(gridId)) this.release(gridId);
      return reported.filter((gridId) => {
        if (!this.#others.has(gridId)) return false;
        const status = this.directory.readStatus(gridId);
        return status === 'INLRMS' || status === 'CANCELING';
      });
    } catch (error) {
      this.#complain(
        'leftovers',
        `${this.directory.path}: ${errnoOf(error) ?? toVmbatchError(error, 'site').message}`,
      );
      return [];
    }
  }

  #readJob(gridId: string, cold: boolean): KnownJob | undefined {
    try {
      if (!cold && this.awaitedState(gridId) === undefined) return undefined;
      const local = this.directory.readLocal(gridId);
      const localId = local === undefined ? undefined : localIdOf(local.text);
      if (local === undefined || localId === undefined) return undefined;
      return { gridId, localId, uid: local.uid, gid: local.gid };
    } catch (error) {
      const why = errnoOf(error) ?? toVmbatchError(error, 'site').message;
      this.#complain(gridId, `job ${gridId}: its files in ${this.directory.path} cannot be read (${why})`);
      return undefined;
    }
  }
}
