// Jobs that A-REX let go of while TORQUE may still have them: A-REX asks once to cancel a batch job, and
// takes any failure for its end. Whoever is left running is deleted here, as its owner, however often it
// takes.
import type { ControlDirectory } from '../../arc/control-directory.ts';
import { localIdOf } from '../../arc/local.ts';
import { isRefused } from '../../arc/refused-id.ts';
import { showBytes } from '../../arc/text.ts';
import { commandPath, type Torque } from '../../batch/torque/commands.ts';
import { isJobId } from '../../batch/torque/job-id.ts';
import { describeRun } from '../../util/processes/run.ts';
import { accountOf, outputIsOf } from '../batch-job-owner.ts';
import { type Complain, type EndSources, IDS_A_CALL, type LiveJob } from './sources.ts';
import type { SavedAbsentee } from './state.ts';

/** Between looks at a job that is on its way through A-REX. Milliseconds. */
const LOOK_MS = 10_000;

/** Between attempts to delete a job; doubled each time. Milliseconds. */
const RETRY_MS = 60_000;
const LONGEST_RETRY_MS = 3_600_000;

/** A-REX may take a job out of one folder before it puts it into the next. Milliseconds. */
const NOWHERE_MS = 10_000;

/** So many jobs that one look finds gone without a trace were cleaned by their users; more are a control
 * directory that somebody moves, restores or has lost, and no reason to delete anything. */
const MAX_VANISHED = 3;

/** A job that is neither here nor there for so long, or that cannot be deleted, is nobody's. Milliseconds. */
const GIVE_UP_MS = 24 * 3_600_000;

/** Accounts whose jobs are deleted in one pass: a process each. */
const ACCOUNTS_A_PASS = 2;

interface Absentee extends SavedAbsentee {
  /** As TORQUE called it last. */
  shownId?: string;
  lookAt: number;
  deletions: number;
}

/** `let-go`: A-REX has done with it. `nowhere`: it has no file of it any more. `wait`: it may come back.
 * `back`: it is, or it has become another batch job. */
type Whereabouts = 'let-go' | 'nowhere' | 'wait' | 'back';

export interface AbsenteesOptions {
  directory: ControlDirectory;
  torque: Torque;
  log: (line: string) => void;
  complain: Complain;
  signal: AbortSignal;
  /** Whether A-REX waits for the end of this batch job, for whichever grid job. */
  isWatched: (localId: string) => boolean;
}

export class Absentees {
  readonly #options: AbsenteesOptions;
  /** By batch job id and grid id. */
  readonly #jobs = new Map<string, Absentee>();
  /** Something changed that the state file should have. */
  dirty = false;

  constructor(options: AbsenteesOptions) {
    this.#options = options;
  }

  get saved(): SavedAbsentee[] {
    return [...this.#jobs.values()].map(({ gridId, localId, uid, gid, leftAt }) => ({
      ...{ gridId, localId, uid, gid },
      leftAt,
    }));
  }

  /** Jobs that left `processing/` although nobody reported their end. */
  add(jobs: readonly SavedAbsentee[]): void {
    if (jobs.length > 0) this.dirty = true;
    for (const job of jobs) {
      if (isRefused(job.localId)) continue;
      if (!isJobId(job.localId)) {
        this.#options.log(
          `job ${job.gridId}: is gone; its batch job's id ${showBytes(job.localId)} is none that TORQUE gives, so that nothing is deleted: look for the job in qstat, and delete it by hand if it runs`,
        );
        continue;
      }
      const whose = this.#actsAs(job.uid);
      if (whose === undefined)
        this.#options.log(
          `job ${job.gridId}: is gone; batch job ${job.localId} is left alone, since its account (uid ${job.uid}) is none that scan deletes jobs as`,
        );
      else this.#jobs.set(keyOf(job), { ...job, lookAt: 0, deletions: 0 });
    }
  }

  /** Deletes what TORQUE still has of the jobs that A-REX let go. */
  async check(sources: EndSources, now = Date.now()): Promise<void> {
    const abandoned = this.#findAbandoned(now).slice(0, IDS_A_CALL);
    if (abandoned.length === 0) return;
    const answers = await sources.ask(
      abandoned.map(({ localId }) => localId),
      () => true,
    );
    if (answers === undefined) return;
    const running: [Absentee, LiveJob][] = [];
    for (const job of abandoned) {
      const live = answers.alive.get(job.localId);
      if (live !== undefined) running.push([job, live]);
      else if (answers.complete.has(job.localId) || answers.unknown.has(job.localId)) {
        if (job.deletions > 0) this.#options.log(`job ${job.gridId}: batch job ${job.localId} is gone now`);
        this.#forget(job);
      }
    }
    await this.#deleteAll(await this.#theirOwn(running));
  }

  /** Jobs that are due and that A-REX has done with. */
  #findAbandoned(now: number): Absentee[] {
    const abandoned: Absentee[] = [];
    const vanished = new Map<number, Absentee[]>();
    for (const job of this.#jobs.values()) {
      if (job.lookAt > now) continue;
      const pause = RETRY_MS * 2 ** Math.min(job.deletions - 1, 10);
      job.lookAt = now + (job.deletions > 0 ? Math.min(pause, LONGEST_RETRY_MS) : LOOK_MS);
      const where = this.#whereabouts(job, now);
      if (where === 'back') this.#forget(job);
      else if (now - job.leftAt > GIVE_UP_MS) this.#giveUp(job);
      // The end of that batch job is another grid job's.
      else if (this.#options.isWatched(job.localId)) continue;
      else if (where === 'let-go') abandoned.push(job);
      else if (where === 'nowhere') vanished.set(job.leftAt, [...(vanished.get(job.leftAt) ?? []), job]);
    }
    for (const jobs of vanished.values())
      if (jobs.length <= MAX_VANISHED) abandoned.push(...jobs);
      else this.#leaveAlone(jobs);
    return abandoned;
  }

  #leaveAlone(jobs: readonly Absentee[]): void {
    const some = jobs.slice(0, 20).map(({ localId }) => localId);
    const more = jobs.length > some.length ? ` and ${jobs.length - some.length} more` : '';
    this.#options.log(
      `${this.#options.directory.path}: ${jobs.length} jobs vanished at once without a trace, so nothing is deleted; if they are not wanted any more, delete their batch jobs by hand: qdel ${some.join(' ')}${more}`,
    );
    for (const job of jobs) this.#forget(job);
  }

  #giveUp(job: Absentee): void {
    if (job.deletions > 0)
      this.#options.log(
        `job ${job.gridId}: its batch job could not be deleted for a day; delete it by hand: qdel ${job.localId}`,
      );
    this.#forget(job);
  }

  #forget(job: Absentee): void {
    this.#jobs.delete(keyOf(job));
    this.dirty = true;
    this.#options.complain(complaintOf(job), undefined);
  }

  #whereabouts({ gridId, localId, leftAt }: Absentee, now: number): Whereabouts {
    const { directory } = this.#options;
    try {
      const found = directory.findStatus(gridId);
      if (found?.folder === 'processing') return 'back';
      const local = directory.readLocal(gridId);
      if (local !== undefined && localIdOf(local.text) !== localId) return 'back';
      if (found?.folder === 'finished')
        return found.status === 'FINISHED' || found.status === 'DELETED' ? 'let-go' : 'wait';
      return found === undefined && local === undefined && now - leftAt >= NOWHERE_MS ? 'nowhere' : 'wait';
    } catch {
      return 'wait'; // unreadable: nothing is known
    }
  }

  /** Those that TORQUE has for the same account, and whose output goes to this very grid job: ids come from
   * files that the job's owner may have had a hand in. */
  async #theirOwn(jobs: readonly [Absentee, LiveJob][]): Promise<Absentee[]> {
    const own: Absentee[] = [];
    for (const [job, live] of jobs) {
      const uid = await accountOf(live.owner, this.#options.torque.run);
      if (uid === job.uid && outputIsOf(job.gridId, live.errorPath)) {
        job.shownId = live.shownId;
        own.push(job);
      } else if (uid === undefined)
        this.#options.complain(
          complaintOf(job),
          `job ${job.gridId}: batch job ${job.localId} belongs to ${live.owner}, an account that cannot be looked up; trying again`,
        );
      else {
        this.#options.log(
          `job ${job.gridId}: batch job ${job.localId} of ${live.owner} is not its own (its output goes to ${live.errorPath}): it is left alone`,
        );
        this.#forget(job);
      }
    }
    return own;
  }

  async #deleteAll(jobs: readonly Absentee[]): Promise<void> {
    const accounts = new Map<string, Absentee[]>();
    for (const job of jobs) {
      const key = `${job.uid}:${job.gid}`;
      accounts.set(key, [...(accounts.get(key) ?? []), job]);
    }
    for (const theirs of [...accounts.values()].slice(0, ACCOUNTS_A_PASS)) await this.#delete(theirs);
  }

  /** @param jobs of one account */
  async #delete(jobs: readonly Absentee[]): Promise<void> {
    const [first] = jobs;
    if (first === undefined) return;
    const { torque, log, complain, signal } = this.#options;
    const ids = jobs.map(({ localId, shownId }) => shownId ?? localId);
    const [program = '', ...args] = [
      ...(this.#actsAs(first.uid) === 'setpriv'
        ? ['setpriv', `--reuid=${first.uid}`, `--regid=${first.gid}`, '--clear-groups', '--']
        : []),
      commandPath(torque, 'qdel'),
      ...ids,
    ];
    for (const job of jobs) {
      if (job.deletions++ > 0) continue;
      log(
        `job ${job.gridId}: A-REX is done with it, but batch job ${job.localId} is still there: deleting it`,
      );
    }
    const result = await torque.run(program, args, { timeoutMs: 5 * 60_000, signal });
    if (result.cancelled) return;
    const missing = result.notFound && program === 'setpriv';
    const why = missing
      ? 'setpriv is not installed: install util-linux'
      : describeRun({ ...result, command: 'qdel' });
    for (const job of jobs)
      complain(
        complaintOf(job),
        result.exitCode === 0
          ? undefined
          : `job ${job.gridId}: batch job ${job.localId} could not be deleted (${why}); trying again`,
      );
  }

  /** How to be that account: root's own jobs, and those of others if we are not root, are never deleted.
   * Owners may always delete their jobs, and root need not be a manager of TORQUE. */
  #actsAs(uid: number): 'setpriv' | 'oneself' | undefined {
    const own = process.geteuid?.();
    if (uid === 0) return undefined;
    if (own === 0) return 'setpriv';
    return own === uid ? 'oneself' : undefined;
  }
}

const keyOf = ({ gridId, localId }: SavedAbsentee) => `${localId} ${gridId}`;
const complaintOf = (job: SavedAbsentee) => `deletion of ${keyOf(job)}`;
