// What the batch server knows of jobs and queues.
import { commandPath, type Torque } from '../commands.ts';
import { torqueError, torqueFailure } from '../errors.ts';
import { JobIds } from '../job-id.ts';
import { requestedSlots } from '../node-request.ts';
import { parseDuration, parseSize, placeJob } from '../units.ts';
import { JobElements, type RawJobElement } from './job-elements.ts';
import { wholeNumber } from './xml.ts';

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

/** A job of `qstat -x` before anybody looked at more than its state. Only during the call that hands it over:
 * the same object then stands for the next job. */
export interface JobElement {
  /** Of a job that was asked for by id: as it was asked for. */
  readonly id: string;
  /** As TORQUE shows it: the server's name may be another one. */
  readonly shownId: string;
  readonly state: string;
  /** One value, cheaply, by the name that TORQUE gives it.
   * @param within `resources_used` or `Resource_List`; default: the job itself */
  text(name: string, within?: string): string | undefined;
  /** All that is ever asked of a job. */
  parse(): TorqueJob;
}

class Element implements JobElement {
  readonly #raw: RawJobElement;
  readonly #asked: AskedIds;

  constructor(raw: RawJobElement, asked: AskedIds) {
    this.#raw = raw;
    this.#asked = asked;
  }

  get id(): string {
    return this.#asked.nameOf(this.#raw.id);
  }

  get shownId(): string {
    return this.#raw.id;
  }

  get state(): string {
    return this.#raw.state;
  }

  text(name: string, within?: string): string | undefined {
    return this.#raw.text(name, within);
  }

  parse(): TorqueJob {
    return toJob(this.#raw, this.id);
  }
}

/** TORQUE answers with the id that it has for a job, which need not be the one that was asked for. */
class AskedIds {
  readonly #asked: ReadonlySet<string>;
  #ids: JobIds | undefined;

  constructor(asked: readonly string[]) {
    this.#asked = new Set(asked);
  }

  /** As it was asked for, if that is clear. */
  nameOf(shown: string): string {
    if (this.#asked.size === 0 || this.#asked.has(shown)) return shown;
    this.#ids ??= new JobIds(this.#asked);
    const [id = shown, ...others] = this.#ids.like(shown);
    return others.length === 0 ? id : shown;
  }
}

/** Which jobs a streaming qstat asks for. */
export interface StreamOptions {
  signal?: AbortSignal;
  /** Default: all of the server. Checked with `isJobId` by the caller. */
  ids?: readonly string[];
  /** The answer goes through a file: less work, but nothing of it is known before the end, and it needs
   * room. */
  viaFiles?: boolean;
  /** Told of what cannot be used, in words for the admin; at the end, and once for all of a kind. */
  onProblem?: (problem: string) => void;
}

/** `qstat -x`, element by element as the answer comes in: memory for one job, whatever their number.
 *
 * Of jobs that are asked for by id, those that TORQUE does not know are returned; it said so of each of them.
 * Anything else that is missing from the answer says nothing about a job.
 * @returns ids that TORQUE said it does not know
 * @throws VmbatchError `site` if the server does not answer, or not completely: what was handed over until
 * then is true, but what was not is not therefore gone; what `onElement` throws */
export async function streamJobElements(
  torque: Torque,
  {
    signal,
    ids = [],
    viaFiles = false,
    onProblem,
    onElement,
  }: StreamOptions & { onElement: (element: JobElement) => void },
): Promise<Set<string>> {
  const asked = new AskedIds(ids);
  let element: Element | undefined;
  let unusable = 0;
  const elements = new JobElements((raw) => {
    element ??= new Element(raw, asked);
    if (raw.id !== '' && raw.state !== '') onElement(element);
    else unusable++;
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
  // A job that is forgotten while the server answers, or that was asked for, makes an exit code of a complete
  // answer. Without an answer, that code says nothing of all the other jobs.
  const unknown = unknownIds(result.stderr, ids, asked);
  const complete = torqueFailure(result)?.code === 'job-unknown' && (answered || unknown.size > 0);
  if (result.exitCode !== 0 && !complete)
    // No numbers: the scan says a text once, until it changes.
    throw torqueError('qstat', result, ids.length === 0 ? 'all jobs' : 'jobs by their ids');
  attempt(() => elements.end());
  if (failure !== undefined) throw failure;
  if (unusable > 0)
    onProblem?.(`qstat -x: ${unusable} jobs have no Job_Id or no job_state in it: they are passed over`);
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
function unknownIds(stderr: string, ids: readonly string[], asked: AskedIds): Set<string> {
  const unknown = new Set<string>();
  if (ids.length === 0) return unknown;
  for (const line of stderr.split('\n'))
    if (/^qstat: Unknown Job Id\b/.test(line))
      unknown.add(asked.nameOf(line.trimEnd().split(' ').at(-1) ?? ''));
  return new Set(ids.filter((id) => unknown.has(id)));
}

/** @param xml the output of `qstat -x`; nothing if there are no jobs
 * @throws VmbatchError `site` for text that is not such a document */
export function parseQstatJobs(xml: string): TorqueJob[] {
  const jobs: TorqueJob[] = [];
  const elements = new JobElements((raw) => {
    if (raw.id !== '' && raw.state !== '') jobs.push(toJob(raw, raw.id));
  });
  elements.add(Buffer.from(xml));
  elements.end();
  return jobs;
}

function toJob(raw: RawJobElement, id: string): TorqueJob {
  const used = (name: string) => raw.text(name, 'resources_used');
  const requested = (name: string) => raw.text(name, 'Resource_List');
  const slots = requestedSlots(requested('neednodes') ?? requested('nodes'));
  return {
    id,
    state: raw.state,
    name: raw.text('Job_Name') ?? '',
    owner: raw.text('Job_Owner') ?? '',
    queue: raw.text('queue') ?? '',
    exitStatus: wholeNumber(raw.text('exit_status')),
    nodes: placeJob(raw.text('exec_host'), slots),
    sessionId: wholeNumber(raw.text('session_id')),
    submitTime: wholeNumber(raw.text('ctime')),
    startTime: wholeNumber(raw.text('start_time')),
    completionTime: wholeNumber(raw.text('comp_time')),
    comment: raw.text('comment'),
    errorPath: raw.text('Error_Path'),
    variables: raw.text('Variable_List'),
    used: {
      cpuTime: parseDuration(used('cput')),
      wallTime: parseDuration(used('walltime')),
      memory: parseSize(used('mem')),
    },
    requested: {
      slots,
      cpuTime: parseDuration(requested('cput')),
      wallTime: parseDuration(requested('walltime')),
      memory: parseSize(requested('mem')),
    },
  };
}
