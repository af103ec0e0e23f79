// Batch jobs that TORQUE calls otherwise than qsub did: by a longer or shorter name of the server, or by
// none. Number and first part of the name tell which job is meant, as long as only one can be.
import type { JobElement } from '../../batch/torque/answers/qstat.ts';
import type { LogEvent } from '../../batch/torque/server-log/server-log.ts';
import { outputIsOf } from '../batch-job-owner.ts';
import type { BatchRecord } from '../finish/outcome.ts';
import { type Complain, toRecord } from './sources.ts';
import type { Traces } from './traces.ts';
import type { JobIndex } from './watch.ts';

/** A job of TORQUE's list that may be one of ours. */
interface Candidate {
  shownId: string;
  /** If it is over. */
  record: BatchRecord | undefined;
}

/** One of ours, under its own id. */
export interface FoundByNumber {
  localId: string;
  record: BatchRecord | undefined;
}

export class OtherNames {
  readonly #index: JobIndex;
  readonly #traces: Traces;
  readonly #complain: Complain;
  readonly #candidates = new Map<string, Candidate[]>();

  constructor(index: JobIndex, traces: Traces, complain: Complain) {
    this.#index = index;
    this.#traces = traces;
    this.#complain = complain;
  }

  /** A line of the log, with our id of the job if that is clear. */
  resolve(event: LogEvent): LogEvent {
    const { jobId } = event;
    const ours = this.#index.like(jobId);
    if (ours.length === 0 || this.#index.get(jobId).length > 0) return event;
    // What was heard of it before nobody took for one of ours.
    if (this.#traces.get(jobId) !== undefined) return event;
    const [localId = ''] = ours;
    const heardAs = this.#traces.get(localId) === undefined ? jobId : this.#traces.otherName(localId);
    if (ours.length > 1) this.#tell(ours.join(' and '), [jobId]);
    else if (heardAs !== jobId) {
      // Under its own id; or under two other ones.
      if (heardAs !== undefined) this.#tell(localId, [heardAs, jobId]);
    } else {
      this.#traces.nameOtherwise(localId, jobId);
      return { ...event, jobId: localId };
    }
    return event;
  }

  /** Gives jobs that are watched from now on what the log said of them before, under another name. */
  adopt(localIds: readonly string[]): void {
    const untold = localIds.filter((id) => this.#traces.get(id) === undefined);
    if (untold.length === 0) return;
    const heard = this.#traces.ids();
    for (const localId of untold) {
      const others = heard.like(localId).filter((id) => this.#index.get(id).length === 0);
      const [first = ''] = others;
      if (others.length > 1) this.#tell(localId, others);
      else if (others.length === 1 && this.#index.like(first).length === 1)
        this.#traces.rename(first, localId);
    }
  }

  /** Takes a job of TORQUE's list that none of ours has the id of; what it is shows at the list's end. */
  note(element: JobElement): void {
    const ours = this.#index.like(element.shownId);
    const [localId] = ours;
    if (localId === undefined) return;
    const errorPath = element.text('Error_Path');
    const jobs = this.#index.get(localId);
    if (errorPath !== undefined && !jobs.some(({ gridId }) => outputIsOf(gridId, errorPath))) return;
    if (ours.length > 1) {
      this.#tell(ours.join(' and '), [element.shownId]);
      return;
    }
    const record = element.state === 'C' ? toRecord(element.parse()) : undefined;
    const earlier = this.#candidates.get(localId) ?? [];
    this.#candidates.set(localId, [...earlier, { shownId: element.shownId, record }]);
  }

  /** To be called at the end of a list.
   * @param isListed whether the list has this very id
   * @returns those of ours that the list has under another name */
  settle(isListed: (localId: string) => boolean): FoundByNumber[] {
    const found: FoundByNumber[] = [];
    for (const [localId, candidates] of this.#candidates) {
      if (isListed(localId)) continue;
      const [first, ...others] = candidates;
      if (first === undefined) continue;
      if (others.length === 0) found.push({ localId, record: first.record });
      else
        this.#tell(
          localId,
          candidates.map(({ shownId }) => shownId),
        );
    }
    this.#candidates.clear();
    return found;
  }

  #tell(ours: string, shown: readonly string[]): void {
    this.#complain(
      `names of ${ours}`,
      `batch job ${ours}: TORQUE tells of ${shown.join(' and ')}, and which job that is cannot be told; if it has ended, its grid job waits until TORQUE says that it knows no ${ours}`,
    );
  }
}
