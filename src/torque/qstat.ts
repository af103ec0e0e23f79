// What the batch server knows of jobs and queues.
import { commandPath, type Torque } from './commands.ts';
import { torqueError, torqueFailure } from './errors.ts';
import { JobElements, type RawJobElement } from './job-elements.ts';
import { parseDuration, parseExecHost, parseSize } from './units.ts';
import { childOf, numberOf, textOf, type XmlElement } from './xml.ts';

/** One job of `qstat -x`. Times are epoch seconds, durations seconds, sizes KiB. */
export interface TorqueJob {
  id: string;
  name: string;
  /** `user@host`. */
  owner: string;
  /** `Q`, `R`, `H`, `E`, `C`, ... */
  state: string;
  queue: string;
  /** Only of jobs that ended after they were started; 256 + signal, and negative when TORQUE ended it. */
  exitStatus: number | undefined;
  nodes: { host: string; slots: number }[];
  /** 0 while the prologue runs. */
  sessionId: number | undefined;
  submitTime: number | undefined;
  startTime: number | undefined;
  completionTime: number | undefined;
  comment: string | undefined;
  /** `host:/path` of stderr, or of both streams if they are joined. */
  errorPath: string | undefined;
  /** `Variable_List` as TORQUE writes it: `NAME=value,NAME=value`, its commas not escaped. */
  variables: string | undefined;
  used: { cpuTime: number | undefined; wallTime: number | undefined; memory: number | undefined };
  requested: {
    slots: number;
    cpuTime: number | undefined;
    wallTime: number | undefined;
    memory: number | undefined;
  };
}

/** A job of `qstat -x` before anybody looked at more than its state. Only during the call that hands it over: the same
 * object then stands for the next job. */
export interface JobElement {
  readonly id: string;
  readonly state: string;
  /** One value, cheaply, by the name that TORQUE gives it.
   * @param within `resources_used` or `Resource_List`; default: the job itself */
  text(name: string, within?: string): string | undefined;
  /** The whole job.
   * @throws VmbatchError `site` if the element is not well-formed */
  parse(): TorqueJob;
}

class Element implements JobElement {
  readonly #raw: RawJobElement;

  constructor(raw: RawJobElement) {
    this.#raw = raw;
  }

  get id(): string {
    return this.#raw.id;
  }

  get state(): string {
    return this.#raw.state;
  }

  text(name: string, within?: string): string | undefined {
    return this.#raw.text(name, within);
  }

  parse(): TorqueJob {
    return toJob(this.#raw.parse(), this.id, this.state);
  }
}

/** Which jobs a streaming qstat asks for. */
export interface StreamOptions {
  signal?: AbortSignal;
  /** Default: all of the server. Checked with `isJobId` by the caller. */
  ids?: readonly string[];
  /** The answer goes through a file: less work, but nothing of it is known before the end, and it needs room. */
  viaFiles?: boolean;
}

/** `qstat -x`, element by element as the answer comes in: memory for one job, whatever their number.
 *
 * Of jobs that are asked for by id, those that TORQUE does not know are returned; it said so of each of them. Anything
 * else that is missing from the answer says nothing about a job.
 * @returns ids that TORQUE said it does not know
 * @throws VmbatchError `site` if the server does not answer, or not completely: what was handed over until then is
 * true, but what was not is not therefore gone; what `onElement` throws */
export async function streamJobElements(
  torque: Torque,
  {
    signal,
    ids = [],
    viaFiles = false,
    onElement,
  }: StreamOptions & { onElement: (element: JobElement) => void },
): Promise<Set<string>> {
  let element: Element | undefined;
  const elements = new JobElements((raw) => {
    element ??= new Element(raw);
    if (raw.id !== '' && raw.state !== '') onElement(element);
  });
  let answered = false;
  let failure: unknown;
  const stop = new AbortController();
  const attempt = (work: () => void) => {
    if (failure !== undefined) return;
    try {
      work();
    } catch (error) {
      failure = error;
      stop.abort();
    }
  };
  const result = await torque.run(commandPath(torque, 'qstat'), ['-x', ...ids], {
    timeoutMs: 5 * 60_000,
    viaFiles,
    signal: signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]),
    onStdout: (chunk) => {
      answered = true;
      attempt(() => elements.add(chunk));
    },
  });
  if (failure !== undefined) throw failure;
  // A job that is forgotten while the server answers, or that was asked for, makes an exit code of a complete answer.
  // Without an answer, that code says nothing of all the other jobs.
  const unknown = unknownIds(result.stderr, ids);
  const complete = torqueFailure(result)?.code === 'job-unknown' && (answered || unknown.size > 0);
  if (result.exitCode !== 0 && !complete)
    // No numbers: the scan says a text once, until it changes.
    throw torqueError('qstat', result, ids.length === 0 ? 'all jobs' : 'jobs by their ids');
  attempt(() => elements.end());
  if (failure !== undefined) throw failure;
  return unknown;
}

/** The same with every job parsed. */
export async function streamJobs(
  torque: Torque,
  { onJob, ...options }: StreamOptions & { onJob: (job: TorqueJob) => void },
): Promise<Set<string>> {
  return await streamJobElements(torque, { ...options, onElement: (element) => onJob(element.parse()) });
}

/** `qstat: Unknown Job Id Error 999.vm`, one line for each. */
function unknownIds(stderr: string, ids: readonly string[]): Set<string> {
  const unknown = new Set<string>();
  if (ids.length === 0) return unknown;
  for (const line of stderr.split('\n'))
    if (/^qstat: Unknown Job Id\b/.test(line)) unknown.add(line.trimEnd().split(' ').at(-1) ?? '');
  return new Set(ids.filter((id) => unknown.has(id)));
}

/** @param xml the output of `qstat -x`; nothing if there are no jobs
 * @throws VmbatchError `site` for text that is not such a document */
export function parseQstatJobs(xml: string): TorqueJob[] {
  const jobs: TorqueJob[] = [];
  const elements = new JobElements((element) => {
    const { id, state } = element;
    if (id !== '' && state !== '') jobs.push(toJob(element.parse(), id, state));
  });
  elements.add(Buffer.from(xml));
  elements.end();
  return jobs;
}

function toJob(element: XmlElement, id: string, state: string): TorqueJob {
  const used = childOf(element, 'resources_used');
  const requested = childOf(element, 'Resource_List');
  return {
    id,
    state,
    name: textOf(element, 'Job_Name') ?? '',
    owner: textOf(element, 'Job_Owner') ?? '',
    queue: textOf(element, 'queue') ?? '',
    exitStatus: numberOf(element, 'exit_status'),
    nodes: parseExecHost(textOf(element, 'exec_host')),
    sessionId: numberOf(element, 'session_id'),
    submitTime: numberOf(element, 'ctime'),
    startTime: numberOf(element, 'start_time'),
    completionTime: numberOf(element, 'comp_time'),
    comment: textOf(element, 'comment'),
    errorPath: textOf(element, 'Error_Path'),
    variables: textOf(element, 'Variable_List'),
    used: {
      cpuTime: parseDuration(textOf(used, 'cput')),
      wallTime: parseDuration(textOf(used, 'walltime')),
      memory: parseSize(textOf(used, 'mem')),
    },
    requested: {
      slots: requestedSlots(textOf(requested, 'nodes')),
      cpuTime: parseDuration(textOf(requested, 'cput')),
      wallTime: parseDuration(textOf(requested, 'walltime')),
      memory: parseSize(textOf(requested, 'mem')),
    },
  };
}

/** Slots of a node request such as `2:ppn=4:big+node7:ppn=2`. */
export function requestedSlots(nodes: string | undefined): number {
  let slots = 0;
  for (const part of (nodes ?? '1').split('+')) {
    const [first = '1', ...properties] = part.split(':');
    const perNode = properties.find((property) => property.startsWith('ppn='))?.slice(4) ?? '1';
    const count = /^[0-9]+$/.test(first) ? Number(first) : 1;
    slots += count * (Number.parseInt(perNode, 10) || 1);
  }
  return slots;
}
