// Where scan learns of ends: TORQUE's server log as it is written, and its list of jobs, asked for only as
// often as it can bear.

import { type JobElement, streamJobElements, type TorqueJob } from '../../batch/torque/answers/qstat.ts';
import type { Torque } from '../../batch/torque/commands.ts';
import { TorqueError } from '../../batch/torque/errors.ts';
import { isJobId, mayBeSameJob } from '../../batch/torque/job-id.ts';
import { type LogPosition, ServerLogFollower } from '../../batch/torque/server-log/follower.ts';
import type { LogEvent } from '../../batch/torque/server-log/server-log.ts';
import { toVmbatchError, type VmbatchError } from '../../util/errors.ts';
import type { BatchRecord } from '../finish/outcome.ts';

/** Says a complaint once, until it changes. Undefined: there is none (any more). */
export type Complain = (about: string, complaint: string | undefined) => void;

/** Without an earlier position, logs that were written to since are read. Longer ago, TORQUE is asked.
 * Milliseconds. */
const BACKLOG_MS = 3 * 24 * 3_600_000;

/** A log that nothing was written to for so long says nothing about the server. Milliseconds. */
const SILENCE_MS = 10 * 60_000;

/** What a log on a file server may be late with its lines. Milliseconds. */
const TELL_MS = 30_000;

/** Between comparisons with TORQUE's list, when the log tells of the ends. Milliseconds. */
const COMPARE_WITH_LOG_MS = 10 * 60_000;

/** TORQUE is queried for at most one part in so many of the time. */
const SHARE_OF_TIME = 20;

/** Ids in one question; whoever has more asks again for the others. */
export const IDS_A_CALL = 500;

/** Questions in place of one that failed: so many find the one id among all that TORQUE refuses. */
const MAX_PARTS = 24;

/** A job that is not over yet. */
export interface LiveJob {
  state: string;
  /** As TORQUE calls it. */
  shownId: string;
  /** `user@host`. */
  owner: string;
  /** `host:/path`. */
  errorPath: string | undefined;
}

/** What TORQUE says of jobs that it was asked for by id. */
export interface JobAnswers {
  /** Jobs that are over and delivered. */
  complete: Map<string, BatchRecord>;
  alive: Map<string, LiveJob>;
  /** TORQUE said that it does not know them. */
  unknown: Set<string>;
}

export class EndSources {
  readonly #torque: Torque;
  readonly #signal: AbortSignal;
  readonly #complain: Complain;
  readonly #follower: ServerLogFollower | undefined;
  readonly #intervalMs: number;
  #logProblem: string | undefined = 'not read yet';
  #missed = false;
  #comparedAt: number;
  #viaFiles = true;
  #failedAt = Number.NEGATIVE_INFINITY;
  #tookMs = 0;

  constructor(options: {
    torque: Torque;
    signal: AbortSignal;
    complain: Complain;
    logDirectory: string | undefined;
    positions: LogPosition[] | undefined;
    /** Epoch milliseconds of the last comparison, by whoever; 0 if never. */
    comparedAt: number;
    /** Milliseconds between comparisons without a log, at best. */
    intervalMs: number;
  }) {
    this.#torque = options.torque;
    this.#signal = options.signal;
    this.#complain = options.complain;
    this.#intervalMs = options.intervalMs;
    // A clock that was put back must not keep us from comparing.
    this.#comparedAt = Math.min(options.comparedAt, Date.now());
    const { logDirectory: directory, positions } = options;
    this.#follower =
      directory === undefined
        ? undefined
        : new ServerLogFollower({ directory, positions, since: Date.now() - BACKLOG_MS });
  }

  get positions(): LogPosition[] | undefined {
    return this.#follower?.positions;
  }

  get comparedAt(): number {
    return this.#comparedAt;
  }

  /** Whether ends are learnt from the log, so that TORQUE need not be asked all the time. */
  followsLog(now = Date.now()): boolean {
    if (this.#follower === undefined || this.#logProblem !== undefined || this.#missed) return false;
    return now - this.#follower.newestWrite < SILENCE_MS;
  }

  /** New lines of the log. */
  readLog(now = Date.now()): { events: LogEvent[]; more: boolean } {
    if (this.#follower === undefined) return { events: [], more: false };
    const { events, more, problem } = this.#follower.look(now);
    this.#logProblem = problem;
    this.#complain(
      'log',
      problem === undefined ? undefined : `${problem}; asking TORQUE for its jobs instead`,
    );
    return { events, more };
  }

  /** The log told of the end of one of our jobs, or did not although TORQUE's list has it. */
  trustLog(told: boolean): void {
    this.#missed = !told;
  }

  /** TORQUE's list has a job of ours that is over: did the log tell, as it should have? */
  noteComplete({ completionTime }: BatchRecord, told: boolean): void {
    const longAgo = completionTime !== undefined && Date.now() - completionTime * 1000 > TELL_MS;
    if (this.followsLog() && !told && longAgo) this.trustLog(false);
  }

  /** @param doubtful whether there are jobs that TORQUE did not list the last time, or that the log may have
   * missed */
  isComparisonDue(doubtful: boolean, now = Date.now()): boolean {
    const polite = Math.max(this.#intervalMs, this.#tookMs * SHARE_OF_TIME);
    const interval = this.followsLog(now) && !doubtful ? COMPARE_WITH_LOG_MS : polite;
    return now - this.#comparedAt >= interval && now - this.#failedAt >= polite;
  }

  /** TORQUE's list of all jobs.
   * @returns false if the server did not answer completely: then nothing is known of jobs that were not
   * handed over */
  async compare(onElement: (element: JobElement) => void): Promise<boolean> {
    const started = performance.now();
    try {
      let unusable: string | undefined;
      await streamJobElements(this.#torque, {
        signal: this.#signal,
        viaFiles: this.#viaFiles,
        onProblem: (problem) => {
          unusable = problem;
        },
        onElement,
      });
      this.#complain('qstat', unusable);
      this.#viaFiles = true;
      this.#comparedAt = Date.now();
      return true;
    } catch (error) {
      if (!this.#signal.aborted) this.#complain('qstat', toVmbatchError(error, 'site').message);
      this.#failedAt = Date.now();
      // The disk for temporary files may be full; the next answer comes through a pipe.
      this.#viaFiles = false;
      return false;
    } finally {
      this.#tookMs = performance.now() - started;
    }
  }

  /** Asks for jobs by id. An id that TORQUE cannot have given is one that it does not know. If TORQUE refuses
   * to answer, it is asked again for fewer at a time, so that one id that it chokes on hides no others. A job
   * that it does not know may be there under another name of the server: asked for by the number alone,
   * TORQUE answers for its own.
   * @param localIds at most IDS_A_CALL
   * @param byNumber of which of them that is not known yet
   * @returns undefined if the server did not answer; what is in no list of the answer is not known */
  async ask(
    localIds: readonly string[],
    byNumber: (localId: string) => boolean,
  ): Promise<JobAnswers | undefined> {
    const answers = await this.#ask(localIds);
    const mayHaveAnother = (id: string) => isJobId(id) && id.includes('.') && byNumber(id);
    const unknown = localIds.filter((id) => answers?.unknown.has(id) && mayHaveAnother(id));
    if (answers === undefined || unknown.length === 0) return answers;
    const number = (id: string) => id.slice(0, id.indexOf('.'));
    const others = await this.#ask(unknown.map(number));
    for (const id of unknown) {
      const live = others?.alive.get(number(id));
      const record = others?.complete.get(number(id));
      if (live !== undefined && mayBeSameJob(live.shownId, id)) answers.alive.set(id, live);
      else if (record !== undefined && mayBeSameJob(record.id, id)) answers.complete.set(id, record);
      else if (others?.unknown.has(number(id))) continue;
      answers.unknown.delete(id);
    }
    return answers;
  }

  async #ask(localIds: readonly string[]): Promise<JobAnswers | undefined> {
    const answers: JobAnswers = { complete: new Map(), alive: new Map(), unknown: new Set() };
    const ids = localIds.filter((id) => {
      if (!isJobId(id)) answers.unknown.add(id);
      return isJobId(id);
    });
    if (ids.length === 0) return answers;
    let answered = false;
    let problem: string | undefined;
    const parts: (readonly string[])[] = [ids];
    for (let calls = 0; calls <= MAX_PARTS && !this.#signal.aborted; calls++) {
      const part = parts.shift();
      if (part === undefined) break;
      const error = await this.#askFor(part, answers);
      if (error === undefined) {
        answered = true;
        continue;
      }
      problem = part.length === 1 ? `${error.message} (${part[0]})` : error.message;
      // A server that is away is away for all of them.
      if (error instanceof TorqueError && error.passing) break;
      const middle = Math.ceil(part.length / 2);
      if (part.length > 1) parts.push(part.slice(0, middle), part.slice(middle));
    }
    if (!this.#signal.aborted) this.#complain('qstat of jobs', problem);
    return answered ? answers : undefined;
  }

  async #askFor(ids: readonly string[], answers: JobAnswers): Promise<VmbatchError | undefined> {
    try {
      const unknown = await streamJobElements(this.#torque, {
        signal: this.#signal,
        ids,
        onElement: (element) => {
          if (element.state === 'C') answers.complete.set(element.id, toRecord(element.parse()));
          else
            answers.alive.set(element.id, {
              state: element.state,
              shownId: element.shownId,
              owner: element.text('Job_Owner') ?? '',
              errorPath: element.text('Error_Path'),
            });
        },
      });
      for (const id of unknown) answers.unknown.add(id);
      return undefined;
    } catch (error) {
      return toVmbatchError(error, 'site');
    }
  }
}

export function toRecord(job: TorqueJob): BatchRecord {
  const { id, exitStatus, nodes, startTime, completionTime, errorPath } = job;
  return {
    id,
    exitStatus,
    nodes,
    startTime,
    completionTime,
    errorPath,
    wallTime: job.used.wallTime,
    deletedBy: undefined,
  };
}
