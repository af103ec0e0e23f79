// What the batch server knows of jobs and queues.
import { VmbatchError } from '../util/errors.ts';
import { commandPath, type Torque } from './commands.ts';
import { torqueError, torqueFailure } from './errors.ts';
import { parseDuration, parseExecHost, parseSize } from './units.ts';
import { childOf, numberOf, parseData, textOf, type XmlElement } from './xml.ts';

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
  used: { cpuTime: number | undefined; wallTime: number | undefined; memory: number | undefined };
  requested: {
    slots: number;
    cpuTime: number | undefined;
    wallTime: number | undefined;
    memory: number | undefined;
  };
}

/** All jobs of the server, in one call.
 * @throws VmbatchError `site` if the server does not answer or not as it should */
export async function qstatJobs(torque: Torque, signal?: AbortSignal): Promise<TorqueJob[]> {
  const result = await torque.run(commandPath(torque, 'qstat'), ['-x'], {
    timeoutMs: 5 * 60_000,
    maxBytes: 512 * 1024 * 1024,
    ...(signal === undefined ? {} : { signal }),
  });
  // A job that is forgotten while the server answers makes an exit code of a complete answer; without an answer,
  // that code says nothing of all the other jobs.
  const answered = torqueFailure(result)?.code === 'job-unknown' && result.stdout.trim() !== '';
  if (result.exitCode !== 0 && !answered) throw torqueError('qstat', result, 'all jobs');
  return parseQstatJobs(result.stdout);
}

/** One job, by its whole id.
 * @returns undefined only if the server said of this very id that it does not know it
 * @throws VmbatchError `site` for every other answer, and for none */
export async function qstatJob(
  torque: Torque,
  jobId: string,
  signal?: AbortSignal,
): Promise<TorqueJob | undefined> {
  const result = await torque.run(commandPath(torque, 'qstat'), ['-x', jobId], {
    ...(signal === undefined ? {} : { signal }),
  });
  if (torqueFailure(result)?.code === 'job-unknown' && namesUnknown(result.stderr, jobId)) return undefined;
  if (result.exitCode !== 0) throw torqueError('qstat', result, `job ${jobId}`);
  const job = (await parseQstatJobs(result.stdout)).find(({ id }) => id === jobId);
  if (job !== undefined) return job;
  throw new VmbatchError({
    fault: 'site',
    code: 'qstat-answer',
    message: `qstat for job ${jobId}: the answer neither has the job nor says that it is unknown`,
  });
}

/** `qstat: Unknown Job Id Error 999.vm` */
function namesUnknown(stderr: string, jobId: string): boolean {
  return stderr
    .split('\n')
    .some((line) => /^qstat: Unknown Job Id\b/.test(line) && line.trimEnd().split(' ').at(-1) === jobId);
}

/** @param xml the output of `qstat -x`; nothing if there are no jobs
 * @throws VmbatchError `site` for text that is not such a document */
export async function parseQstatJobs(xml: string): Promise<TorqueJob[]> {
  return (await parseData(xml, 'Job', 'qstat -x')).flatMap((element) => toJob(element) ?? []);
}

function toJob(element: XmlElement): TorqueJob | undefined {
  const id = textOf(element, 'Job_Id');
  const state = textOf(element, 'job_state');
  if (id === undefined || state === undefined) return undefined;
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
function requestedSlots(nodes: string | undefined): number {
  let slots = 0;
  for (const part of (nodes ?? '1').split('+')) {
    const [first = '1', ...properties] = part.split(':');
    const perNode = properties.find((property) => property.startsWith('ppn='))?.slice(4) ?? '1';
    const count = /^[0-9]+$/.test(first) ? Number(first) : 1;
    slots += count * (Number.parseInt(perNode, 10) || 1);
  }
  return slots;
}

/** One queue of `qstat -Q -f`. */
export interface TorqueQueue {
  name: string;
  /** Accepts jobs, starts jobs. */
  enabled: boolean;
  started: boolean;
  /** All attributes as TORQUE writes them, unfolded: `resources_max.walltime`, `max_running`, ... */
  attributes: ReadonlyMap<string, string>;
  /** From `state_count`: `Queued`, `Running`, ... */
  counts: ReadonlyMap<string, number>;
}

/** All queues of the server.
 * @throws VmbatchError `site` if the server does not answer */
export async function qstatQueues(torque: Torque): Promise<TorqueQueue[]> {
  const result = await torque.run(commandPath(torque, 'qstat'), ['-Q', '-f']);
  if (result.exitCode !== 0) throw torqueError('qstat', result, 'all queues');
  return parseQstatQueues(result.stdout);
}

/** @param text the output of `qstat -Q -f`: long values fold with a newline and a tab, even inside a word */
export function parseQstatQueues(text: string): TorqueQueue[] {
  const queues: TorqueQueue[] = [];
  let attributes = new Map<string, string>();
  for (const line of text.replaceAll('\n\t', '').split('\n')) {
    const name = /^Queue: (\S+)$/.exec(line)?.[1];
    const [, key, value] = /^ {4}(\S+) = (.*)$/.exec(line) ?? [];
    if (name !== undefined) {
      attributes = new Map();
      queues.push({ name, enabled: false, started: false, attributes, counts: new Map() });
    } else if (key !== undefined && value !== undefined) attributes.set(key, value.trim());
  }
  return queues.map((queue) => ({
    ...queue,
    enabled: queue.attributes.get('enabled') === 'True',
    started: queue.attributes.get('started') === 'True',
    counts: new Map(
      [...(queue.attributes.get('state_count') ?? '').matchAll(/(\w+):(\d+)/g)].map(
        ([, state = '', count]) => [state, Number(count)],
      ),
    ),
  }));
}
