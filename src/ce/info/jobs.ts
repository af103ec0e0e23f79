// Jobs for the information provider: each is folded into sums as it comes, and only those asked for are kept.

import type { JobElement } from '../../batch/torque/answers/qstat.ts';
import { JobIds } from '../../batch/torque/job-id.ts';
import { requestedSlots } from '../../batch/torque/node-request.ts';
import { countIndices, parseDuration, placeJob } from '../../batch/torque/units.ts';

/** A job as LRMSInfo.pm wants it, durations in seconds. What is undefined is not in the document. Not its
 * memory and CPU time: what TORQUE measures is the process that waits for the guest. */
export interface JobInformation {
  /** Running, suspended, waiting for whatever it waits for, gone. ARC 6 counts other words as waiting; ARC 7
   * counts `O` and `E` nowhere. */
  status: 'R' | 'S' | 'Q' | 'EXECUTED';
  cpus: number;
  /** Its place among the waiting jobs of its queue, from 1. */
  rank: number | undefined;
  walltime: number | undefined;
  reqwalltime: number | undefined;
  reqcputime: number | undefined;
  nodes: readonly string[];
  comment: readonly string[];
}

/** Sums over the jobs of one queue; no job that has ended is in them. */
export interface JobSums {
  runningJobs: number;
  runningCpus: number;
  waitingJobs: number;
  waitingCpus: number;
  suspendedJobs: number;
  /** Running jobs that were asked for by their ids (A-REX's own), and their CPUs. */
  ownRunningJobs: number;
  ownRunningCpus: number;
  /** Running jobs by user. */
  runningOfUser: Map<string, number>;
}

/** No jobs at all. */
export function noJobs(): JobSums {
  return {
    runningJobs: 0,
    runningCpus: 0,
    waitingJobs: 0,
    waitingCpus: 0,
    suspendedJobs: 0,
    ownRunningJobs: 0,
    ownRunningCpus: 0,
    runningOfUser: new Map(),
  };
}

/** The sums of several queues together. */
export function addSums(all: Iterable<JobSums>): JobSums {
  const total = noJobs();
  for (const sums of all) {
    total.runningJobs += sums.runningJobs;
    total.runningCpus += sums.runningCpus;
    total.waitingJobs += sums.waitingJobs;
    total.waitingCpus += sums.waitingCpus;
    total.suspendedJobs += sums.suspendedJobs;
    total.ownRunningJobs += sums.ownRunningJobs;
    total.ownRunningCpus += sums.ownRunningCpus;
    for (const [user, count] of sums.runningOfUser)
      total.runningOfUser.set(user, (total.runningOfUser.get(user) ?? 0) + count);
  }
  return total;
}

/** A job that may be one that was asked for. */
interface Candidate {
  shownId: string;
  sums: JobSums;
  information: JobInformation;
  /** No other id that was asked for may mean it. */
  isSure: boolean;
}

/** Takes jobs one by one. */
export class JobCollector {
  /** By queue. */
  readonly sums = new Map<string, JobSums>();
  /** Running jobs of all queues by the host that they run on, the first one of several; and the CPUs in use
   * on each host. */
  readonly jobsOnHost = new Map<string, number>();
  readonly cpusOnHost = new Map<string, number>();
  readonly #found: Record<string, JobInformation> = Object.create(null);
  /** The queues of those found; empty if it was asked for jobs, wherever they are. */
  readonly #queues = new Map<string, string>();
  readonly #wanted: ReadonlySet<string> | undefined;
  readonly #ids: JobIds;
  /** By an id that was asked for: jobs that have it with another name of the server, or without any. */
  readonly #candidates = new Map<string, Candidate[]>();
  readonly #slotsOf = lastOf(requestedSlots);
  readonly #wallTimeOf = lastOf(parseDuration);
  readonly #cpuTimeOf = lastOf(parseDuration);

  /** @param wanted ids of jobs to keep; undefined: all */
  constructor(wanted: readonly string[] | undefined) {
    this.#wanted = wanted === undefined ? undefined : new Set(wanted);
    this.#ids = new JobIds(this.#wanted ?? []);
  }

  add(element: JobElement): void {
    const { id, state } = element;
    const wanted = this.#wanted === undefined || this.#wanted.has(id);
    // TORQUE keeps jobs that have ended for a while; there may be more of them than of all others.
    const [likely, ...others] = wanted ? [] : this.#ids.like(id);
    if (state === 'C' && !wanted && likely === undefined) return;
    const status = statusOf(state);
    const queue = element.text('queue') ?? '';
    const sums = this.#sumsOf(queue);
    const request = element.text('neednodes', 'Resource_List') ?? element.text('nodes', 'Resource_List');
    const asked = this.#slotsOf(request);
    const place = placeOf(element.text('exec_host'), asked);
    const cpus = place?.cpus ?? asked;
    if (status === 'R') {
      if (place !== undefined) this.#use(place);
      sums.runningJobs++;
      sums.runningCpus += cpus;
      if (this.#wanted !== undefined && wanted) {
        sums.ownRunningJobs++;
        sums.ownRunningCpus += cpus;
      }
      const user = userOf(element.text('Job_Owner') ?? '');
      sums.runningOfUser.set(user, (sums.runningOfUser.get(user) ?? 0) + 1);
    } else if (status === 'S') sums.suspendedJobs++;
    else if (status !== 'EXECUTED') {
      sums.waitingJobs++;
      sums.waitingCpus += cpus;
    }
    if (!wanted && likely === undefined) return;
    if (this.#wanted === undefined) this.#queues.set(id, queue);
    // All that there may be at once, in one order: ten thousand jobs are too many for objects that grow.
    const information: JobInformation = {
      status,
      cpus,
      nodes: place?.hosts ?? NONE,
      comment: commentOf(element),
      rank: status === 'Q' ? sums.waitingJobs : undefined,
      walltime: parseDuration(element.text('walltime', 'resources_used')),
      reqwalltime: this.#wallTimeOf(element.text('walltime', 'Resource_List')),
      reqcputime: this.#cpuTimeOf(element.text('cput', 'Resource_List')),
    };
    if (likely === undefined) this.#found[id] = information;
    else
      for (const asked of [likely, ...others]) {
        const candidate = { shownId: id, sums, information, isSure: others.length === 0 };
        this.#candidates.set(asked, [...(this.#candidates.get(asked) ?? []), candidate]);
      }
  }

  /** To be called when all jobs have come: takes those that TORQUE has under another name of the server,
   * where only one can be meant.
   * @returns warnings about the others */
  settle(): string[] {
    const warnings: string[] = [];
    for (const [asked, candidates] of this.#candidates) {
      const [first, ...others] = candidates;
      if (first === undefined || this.#found[asked] !== undefined) continue;
      if (others.length > 0 || !first.isSure) {
        const shown = candidates.map(({ shownId }) => shownId).join(' and ');
        warnings.push(`batch job ${asked}: TORQUE tells of ${shown}, and which job that is cannot be told`);
        continue;
      }
      const { sums, information } = first;
      this.#found[asked] = information;
      if (information.status !== 'R') continue;
      sums.ownRunningJobs++;
      sums.ownRunningCpus += information.cpus;
    }
    return warnings;
  }

  /** By id, those asked for that TORQUE has, wherever they are. If all were asked for: those of these
   * queues. */
  found(queues: ReadonlySet<string>): Readonly<Record<string, JobInformation>> {
    for (const [id, queue] of this.#queues) if (!queues.has(queue)) delete this.#found[id];
    return this.#found;
  }

  #use({ hosts, slots }: Place): void {
    const [first = ''] = hosts;
    this.jobsOnHost.set(first, (this.jobsOnHost.get(first) ?? 0) + 1);
    for (const [index, host] of hosts.entries())
      this.cpusOnHost.set(host, (this.cpusOnHost.get(host) ?? 0) + (slots[index] ?? 0));
  }

  #sumsOf(queue: string): JobSums {
    const known = this.sums.get(queue);
    if (known !== undefined) return known;
    const sums = noJobs();
    this.sums.set(queue, sums);
    return sums;
  }
}

const NONE: readonly string[] = [];

/** What jobs ask for is mostly what the job before them asked for: it is not worked out again then. */
function lastOf<T>(work: (text: string | undefined) => T): (text: string | undefined) => T {
  let last: string | undefined;
  let result = work(undefined);
  return (text) => {
    if (text !== last) {
      result = work(text);
      last = text;
    }
    return result;
  };
}

interface Place {
  hosts: string[];
  /** On each of them. */
  slots: number[];
  cpus: number;
}

/** Where a job runs; most of them on one host. */
function placeOf(text: string | undefined, requested: number): Place | undefined {
  if (text === undefined) return undefined;
  const slash = text.indexOf('/');
  if (slash > 0 && !text.includes('+') && text.indexOf('/', slash + 1) < 0) {
    const cpus = Math.max(requested, countIndices(text.slice(slash + 1)));
    return { hosts: [text.slice(0, slash)], slots: [cpus], cpus };
  }
  const nodes = placeJob(text, requested);
  if (nodes.length === 0) return undefined;
  const slots = nodes.map((node) => node.slots);
  return {
    hosts: nodes.map(({ host }) => host),
    slots,
    cpus: slots.reduce((sum, count) => sum + count, 0),
  };
}

/** `alice` of `alice@ce.example.org`. */
function userOf(owner: string): string {
  const at = owner.indexOf('@');
  return at < 0 ? owner : owner.slice(0, at);
}

/** Jobs whose end takes its time (`E`) still run; those that are held, or wait for their time, wait. */
function statusOf(state: string): JobInformation['status'] {
  if (state === 'R' || state === 'E') return 'R';
  if (state === 'C') return 'EXECUTED';
  if (state === 'S' || state === 'U') return 'S';
  return 'Q';
}

function commentOf(element: JobElement): readonly string[] {
  const said = element.text('comment');
  // There is no session as long as the prologue runs.
  const isStarting = element.state === 'R' && (element.text('session_id') ?? '0') === '0';
  if (said === undefined && !isStarting) return NONE;
  const comment = said === undefined ? [] : [`LRMS: ${said}`];
  if (isStarting) comment.push('LRMS: the virtual machine of this job is being started');
  return comment;
}
