// Info: what A-REX's information provider wants to know, in one JSON document. VMBATCHmod.pm adds what only it knows.
import type { Torque } from '../torque/commands.ts';
import { pbsnodes, type TorqueNode } from '../torque/pbsnodes.ts';
import { qstatJobs, qstatQueues, type TorqueJob, type TorqueQueue } from '../torque/qstat.ts';
import { parseDuration } from '../torque/units.ts';
import { toVmbatchError } from '../util/errors.ts';

/** The structure that LRMSInfo.pm describes, but for `queues{NAME}{users}`. Sizes in kB, durations in seconds; what is
 * undefined is left out of the JSON document. */
export interface Information {
  cluster: {
    lrms_type: 'torque';
    lrms_glue_type: 'torque';
    lrms_version: string;
    totalcpus: number;
    usedcpus: number;
    queuedcpus: number;
    runningjobs: number;
    queuedjobs: number;
    /** `4cpu:2 8cpu:1`. */
    cpudistribution: string;
  };
  queues: Record<string, QueueInformation>;
  jobs: Record<string, JobInformation>;
  nodes: Record<string, NodeInformation>;
  /** What could not be found out; for the log. */
  problems: string[];
}

interface QueueInformation {
  /** Negative: takes no jobs. */
  status: 1 | -1;
  /** CPUs in use. */
  running: number;
  /** Jobs, as the next two. */
  queued: number;
  suspended: number;
  total: number;
  maxrunning: number;
  maxqueuable: number | undefined;
  maxuserrun: number | undefined;
  totalcpus: number;
  maxwalltime: number | undefined;
  minwalltime: number | undefined;
  defaultwallt: number | undefined;
  maxcputime: number | undefined;
  mincputime: number | undefined;
  defaultcput: number | undefined;
  acl_users: string[];
  nodes: string[];
  /** CPUs that a job could get at once. */
  freecpus: number;
}

interface JobInformation {
  status: 'R' | 'Q' | 'S' | 'EXECUTED';
  cpus: number;
  rank: number | undefined;
  mem: number | undefined;
  walltime: number | undefined;
  cputime: number | undefined;
  reqwalltime: number | undefined;
  reqcputime: number | undefined;
  nodes: string[];
  comment: string[];
}

interface NodeInformation {
  isavailable: 0 | 1;
  isfree: 0 | 1;
  tags: string[];
  slots: number;
  lcpus: number | undefined;
  pmem: number | undefined;
  vmem: number | undefined;
  sysname: string;
  release: string;
  machine: string;
}

/** States of nodes that run no new jobs. */
const UNAVAILABLE = new Set(['down', 'offline', 'unknown', 'state-unknown']);

/** Asks TORQUE once for each kind of thing. A server that does not answer makes an empty document with `problems`. */
export async function information(torque: Torque): Promise<Information> {
  const problems: string[] = [];
  const attempt = async <T>(work: Promise<T[]>): Promise<T[]> => {
    try {
      return await work;
    } catch (error) {
      problems.push(toVmbatchError(error).message);
      return [];
    }
  };
  const [jobs, queues, nodes] = await Promise.all([
    attempt(qstatJobs(torque)),
    attempt(qstatQueues(torque)),
    attempt(pbsnodes(torque)),
  ]);
  return describe(jobs, queues, nodes, problems);
}

/** The document, from what TORQUE said. */
function describe(
  jobs: readonly TorqueJob[],
  queues: readonly TorqueQueue[],
  nodes: readonly TorqueNode[],
  problems: string[] = [],
): Information {
  const available = nodes.filter(isAvailable);
  const totalCpus = available.reduce((sum, node) => sum + node.slots, 0);
  const freeCpus = available.reduce((sum, node) => sum + freeSlots(node), 0);
  const running = jobs.filter(isRunning);
  const waiting = jobs.filter(isWaiting);
  const ranks = new Map(waiting.map((job, index) => [job.id, index + 1]));
  return {
    cluster: {
      lrms_type: 'torque',
      lrms_glue_type: 'torque',
      lrms_version: nodes.find((node) => node.torqueVersion !== undefined)?.torqueVersion ?? '',
      totalcpus: totalCpus,
      usedcpus: cpusOf(running),
      queuedcpus: cpusOf(waiting),
      runningjobs: running.length,
      queuedjobs: waiting.length,
      cpudistribution: distribution(available),
    },
    queues: Object.fromEntries(
      queues.map((queue) => [queue.name, describeQueue(queue, jobs, nodes, totalCpus, freeCpus)]),
    ),
    jobs: Object.fromEntries(jobs.map((job) => [job.id, describeJob(job, ranks.get(job.id))])),
    nodes: Object.fromEntries(nodes.map((node) => [node.name, describeNode(node)])),
    problems,
  };
}

const isAvailable = (node: TorqueNode) => !node.states.some((state) => UNAVAILABLE.has(state));
const freeSlots = (node: TorqueNode) => Math.max(0, node.slots - node.usedSlots);
const isRunning = (job: TorqueJob) => job.state === 'R' || job.state === 'E';
const isWaiting = (job: TorqueJob) => job.state !== 'C' && job.state !== 'S' && !isRunning(job);
const slotsOf = (job: TorqueJob) =>
  job.nodes.length > 0 ? job.nodes.reduce((sum, node) => sum + node.slots, 0) : job.requested.slots;
const cpusOf = (jobs: readonly TorqueJob[]) => jobs.reduce((sum, job) => sum + slotsOf(job), 0);

function distribution(nodes: readonly TorqueNode[]): string {
  const counts = new Map<number, number>();
  for (const { slots } of nodes) counts.set(slots, (counts.get(slots) ?? 0) + 1);
  return [...counts].map(([slots, count]) => `${slots}cpu:${count}`).join(' ');
}

function describeQueue(
  queue: TorqueQueue,
  allJobs: readonly TorqueJob[],
  nodes: readonly TorqueNode[],
  totalCpus: number,
  freeCpus: number,
): QueueInformation {
  const jobs = allJobs.filter((job) => job.queue === queue.name && job.state !== 'C');
  const { attributes } = queue;
  const number = (key: string): number | undefined => {
    const value = attributes.get(key);
    return value !== undefined && /^[0-9]{1,15}$/.test(value) ? Number(value) : undefined;
  };
  const duration = (key: string): number | undefined => parseDuration(attributes.get(key));
  const maxRunning = number('max_running');
  return {
    status: queue.enabled && queue.started ? 1 : -1,
    running: cpusOf(jobs.filter(isRunning)),
    queued: jobs.filter(isWaiting).length,
    suspended: jobs.filter(({ state }) => state === 'S').length,
    total: jobs.length,
    maxrunning: maxRunning ?? totalCpus,
    maxqueuable: number('max_queuable'),
    maxuserrun: number('max_user_run'),
    totalcpus: totalCpus,
    maxwalltime: duration('resources_max.walltime'),
    minwalltime: duration('resources_min.walltime'),
    defaultwallt: duration('resources_default.walltime'),
    maxcputime: duration('resources_max.cput'),
    mincputime: duration('resources_min.cput'),
    defaultcput: duration('resources_default.cput'),
    acl_users:
      attributes.get('acl_user_enable') === 'True'
        ? (attributes.get('acl_users') ?? '').split(',').filter(Boolean)
        : [],
    nodes: nodes.map(({ name }) => name),
    freecpus: queue.enabled && queue.started ? freeCpus : 0,
  };
}

function describeJob(job: TorqueJob, rank: number | undefined): JobInformation {
  return {
    status: job.state === 'C' ? 'EXECUTED' : job.state === 'S' ? 'S' : isRunning(job) ? 'R' : 'Q',
    cpus: slotsOf(job),
    rank: rank,
    mem: job.used.memory,
    walltime: job.used.wallTime,
    cputime: job.used.cpuTime,
    reqwalltime: job.requested.wallTime,
    reqcputime: job.requested.cpuTime,
    nodes: job.nodes.map(({ host }) => host),
    comment: job.comment === undefined ? [] : [`LRMS: ${job.comment}`],
  };
}

function describeNode(node: TorqueNode): NodeInformation {
  const [sysname = '', , release = '', ...rest] = (node.uname ?? '').split(' ');
  const isavailable = isAvailable(node) ? 1 : 0;
  return {
    isavailable,
    isfree: isavailable === 1 && freeSlots(node) > 0 ? 1 : 0,
    tags: node.properties,
    slots: node.slots,
    lcpus: node.cpus,
    pmem: node.physicalMemory,
    vmem: node.totalMemory,
    sysname,
    release,
    machine: rest.at(-1) ?? '',
  };
}
