// Queues, nodes and the server itself as the status requests show them.
import type { Pair, StatusObject } from '../common/protocol.ts';
import type { BatchNode, BatchServer, Queue } from './batch.ts';
import { compactRange, type Job, resourceOf } from './job.ts';
import { sizeInBytes } from './resources.ts';

/** Order in which TORQUE lists attributes; those not named here come last. */
const SERVER_ORDER = [
  'server_state',
  'scheduling',
  'total_jobs',
  'state_count',
  'acl_hosts',
  'managers',
  'operators',
  'default_queue',
  'log_events',
  'mail_from',
  'resources_assigned.nodect',
  'resources_assigned.mem',
  'scheduler_iteration',
  'node_check_rate',
  'tcp_timeout',
  'job_stat_rate',
  'poll_jobs',
  'down_on_error',
  'mom_job_sync',
  'pbs_version',
  'keep_completed',
  'submit_hosts',
  'next_job_number',
  'net_counter',
  'moab_array_compatible',
  'nppcu',
  'timeout_for_job_delete',
  'timeout_for_job_requeue',
  'note_append_on_error',
];

const QUEUE_ORDER = [
  'queue_type',
  'total_jobs',
  'state_count',
  'max_queuable',
  'max_user_queuable',
  'max_running',
];
const QUEUE_LAST = ['mtime', 'resources_assigned.nodect', 'resources_assigned.mem', 'enabled', 'started'];

function ordered(
  values: ReadonlyMap<string, string>,
  first: readonly string[],
  last: readonly string[] = [],
): Pair[] {
  const middle = [...values.keys()].filter((name) => !first.includes(name) && !last.includes(name));
  return [...first, ...middle, ...last].flatMap((name): Pair[] => {
    const value = values.get(name);
    return value === undefined ? [] : [[name, value]];
  });
}

function stateCount(jobs: readonly Job[]): string {
  const count = (state: string): number => jobs.filter((job) => job.state === state).length;
  return `Transit:0 Queued:${count('Q')} Held:${count('H')} Waiting:${count('W')} Running:${count('R')} Exiting:0 Complete:${count('C')} `;
}

/** What running jobs were given; absent when nothing runs. */
function assigned(jobs: readonly Job[]): Pair[] {
  const running = jobs.filter((job) => job.state === 'R');
  if (running.length === 0) return [];
  const nodes = running.reduce((sum, job) => sum + Number(resourceOf(job, 'nodect') ?? 0), 0);
  const memory = running.reduce((sum, job) => sum + (sizeInBytes(resourceOf(job, 'mem') ?? '') ?? 0), 0);
  const pairs: Pair[] = [['resources_assigned.nodect', String(nodes)]];
  if (memory > 0) pairs.push(['resources_assigned.mem', `${memory}b`]);
  return pairs;
}

export function serverStatus(server: BatchServer): StatusObject {
  const jobs = [...server.jobs.values()];
  const values = new Map(server.attributes);
  values
    .set('server_state', 'Active')
    .set('total_jobs', String(jobs.length))
    .set('state_count', stateCount(jobs));
  values
    .set('pbs_version', '6.1-dev')
    .set('next_job_number', String(server.nextJob))
    .set('net_counter', '1 1 1');
  for (const [name, value] of assigned(jobs)) values.set(name, value);
  return { name: server.name, attributes: ordered(values, SERVER_ORDER) };
}

export function queueStatus(server: BatchServer, queue: Queue): StatusObject {
  const jobs = [...server.jobs.values()].filter((job) => job.queue === queue.name);
  const values = new Map(queue.attributes);
  values.set('total_jobs', String(jobs.length)).set('state_count', stateCount(jobs));
  values.set('mtime', String(queue.modified));
  for (const [name, value] of assigned(jobs)) values.set(name, value);
  return { name: queue.name, attributes: ordered(values, QUEUE_ORDER, QUEUE_LAST) };
}

/** Jobs of a node, `3/68.vm,1-2/67.vm`. */
function nodeJobs(server: BatchServer, node: BatchNode): { slots: number[]; id: string }[] {
  return [...server.jobs.values()]
    .filter((job) => job.state === 'R')
    .flatMap((job) =>
      job.placement.filter((one) => one.node === node.name).map(({ slots }) => ({ slots, id: job.id })),
    );
}

export function nodeStatus(server: BatchServer, node: BatchNode): StatusObject {
  const jobs = nodeJobs(server, node);
  const taken = jobs.reduce((sum, { slots }) => sum + slots.length, 0);
  const state: string[] = [];
  if (node.socket === undefined) state.push('down');
  if (node.offline) state.push('offline');
  if (state.length === 0) state.push(taken >= node.np ? 'job-exclusive' : 'free');
  const attributes: Pair[] = [
    ['state', state.join(',')],
    ['power_state', 'Running'],
    ['np', String(node.np)],
  ];
  if (node.properties.length > 0) attributes.push(['properties', node.properties.join(',')]);
  attributes.push(['ntype', 'cluster']);
  if (jobs.length > 0) {
    attributes.push(['jobs', jobs.map(({ slots, id }) => `${compactRange(slots)}/${id}`).join(',')]);
  }
  if (node.status !== '') attributes.push(['status', node.status]);
  if (node.note !== '') attributes.push(['note', node.note]);
  attributes.push(['mom_service_port', '15002'], ['mom_manager_port', '15003']);
  return { name: node.name, attributes };
}
