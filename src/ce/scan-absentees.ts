// Jobs that A-REX let go of while TORQUE may still have them: A-REX asks once to cancel a batch job, and takes any
// failure for its end. Whoever is left running is deleted here, however often it takes.
import type { ControlDirectory } from '../arc/control-directory.ts';
import { localIdOf } from '../arc/local.ts';
import { isRefused } from '../arc/refused-id.ts';
import { commandPath, type Torque } from '../torque/commands.ts';
import { isJobId } from '../torque/job-id.ts';
import { describeRun } from '../util/run.ts';
import type { EndSources } from './scan-sources.ts';
import type { SavedAbsentee } from './scan-state.ts';

/** Between looks at a job that is on its way through A-REX, and between attempts to delete. Milliseconds. */
const LOOK_MS = 10_000;
const RETRY_MS = 60_000;

/** A-REX may take a job out of one folder before it puts it into the next. Milliseconds. */
const NOWHERE_MS = 10_000;

/** A job that is neither here nor there for so long is nobody's. Milliseconds. */
const GIVE_UP_MS = 24 * 3_600_000;

/** Accounts whose jobs are deleted in one pass: a process each. */
const ACCOUNTS_A_PASS = 2;

interface Absentee extends SavedAbsentee {
  lookAt: number;
  deletions: number;
}

/** `let-go`: A-REX has done with it. `wait`: it may come back. `back`: it is, or it has become another batch job. */
type Whereabouts = 'let-go' | 'wait' | 'back';

export class Absentees {
  readonly #directory: ControlDirectory;
  readonly #torque: Torque;
  readonly #log: (line: string) => void;
  readonly #jobs = new Map<string, Absentee>();

  constructor(directory: ControlDirectory, torque: Torque, log: (line: string) => void) {
    this.#directory = directory;
    this.#torque = torque;
    this.#log = log;
  }

  get saved(): SavedAbsentee[] {
    return [...this.#jobs.values()].map(({ gridId, localId, leftAt }) => ({ gridId, localId, leftAt }));
  }

  /** Jobs that left `processing/` although nobody reported their end. */
  add(jobs: readonly SavedAbsentee[]): void {
    for (const job of jobs)
      if (isJobId(job.localId) && !isRefused(job.localId))
        this.#jobs.set(job.localId, { ...job, lookAt: 0, deletions: 0 });
  }

  /** Deletes what TORQUE still has of the jobs that A-REX let go. */
  async check(sources: EndSources, now = Date.now()): Promise<void> {
    const abandoned: Absentee[] = [];
    for (const job of this.#jobs.values()) {
      if (job.lookAt > now) continue;
      job.lookAt = now + (job.deletions > 0 ? RETRY_MS : LOOK_MS);
      const where = this.#whereabouts(job, now);
      if (where === 'let-go') abandoned.push(job);
      else if (where === 'back' || now - job.leftAt > GIVE_UP_MS) this.#jobs.delete(job.localId);
    }
    if (abandoned.length === 0) return;
    const answers = await sources.ask(abandoned.map(({ localId }) => localId));
    if (answers === undefined) return;
    const running: Absentee[] = [];
    for (const job of abandoned) {
      if (answers.alive.has(job.localId)) running.push(job);
      else if (answers.complete.has(job.localId) || answers.unknown.has(job.localId)) {
        if (job.deletions > 0) this.#log(`job ${job.gridId}: batch job ${job.localId} is gone now`);
        this.#jobs.delete(job.localId);
      }
    }
    await this.#deleteAll(running);
  }

  #whereabouts({ gridId, localId, leftAt }: Absentee, now: number): Whereabouts {
    try {
      const found = this.#directory.findStatus(gridId);
      if (found?.folder === 'processing') return 'back';
      const local = this.#directory.readLocalText(gridId);
      if (local !== undefined && localIdOf(local) !== localId) return 'back';
      if (found?.folder === 'finished')
        return found.status === 'FINISHED' || found.status === 'DELETED' ? 'let-go' : 'wait';
      return found === undefined && local === undefined && now - leftAt >= NOWHERE_MS ? 'let-go' : 'wait';
    } catch {
      return 'wait'; // unreadable: nothing is known
    }
  }

  async #deleteAll(jobs: readonly Absentee[]): Promise<void> {
    const accounts = new Map<number | undefined, Absentee[]>();
    for (const job of jobs) {
      const uid = this.#uidOf(job.gridId);
      accounts.set(uid, [...(accounts.get(uid) ?? []), job]);
    }
    for (const [uid, theirs] of [...accounts].slice(0, ACCOUNTS_A_PASS)) {
      const ids = theirs.map(({ localId }) => localId);
      const command = [commandPath(this.#torque, 'qdel'), ...ids];
      // As the owner, who may always delete their jobs: root need not be a manager of TORQUE.
      const [program = '', ...args] =
        uid === undefined || process.geteuid?.() !== 0
          ? command
          : ['setpriv', `--reuid=${uid}`, '--clear-groups', '--', ...command];
      const result = await this.#torque.run(program, args, { timeoutMs: 5 * 60_000 });
      for (const job of theirs) {
        if (job.deletions === 0)
          this.#log(
            `job ${job.gridId}: A-REX is done with it, but batch job ${job.localId} is still there: deleting it`,
          );
        job.deletions++;
      }
      if (result.exitCode !== 0)
        this.#log(`qdel ${ids.slice(0, 3).join(' ')}: ${describeRun(result)}; trying again`);
    }
  }

  #uidOf(gridId: string): number | undefined {
    try {
      const uid = this.#directory.readLocal(gridId)?.uid;
      return uid === 0 ? undefined : uid;
    } catch {
      return undefined;
    }
  }
}
