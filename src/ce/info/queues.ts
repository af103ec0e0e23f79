// Queues for the information provider: limits, access, and what is free for whom.
import type { TorqueNode } from '../../batch/torque/answers/pbsnodes.ts';
import {
  type Attributes,
  countOf,
  durationOf,
  isOpen,
  listOf,
  type QueueDescription,
  routeDestinations,
} from '../../batch/torque/answers/queues.ts';
import type { JobSums } from './jobs.ts';
import { freeCpus, totalCpus } from './nodes.ts';

/** A queue as LRMSInfo.pm wants it, with two figures more that A-REX publishes if they are there. Durations
 * in seconds. */
export interface QueueInformation {
  /** Negative: starts or takes no jobs. */
  status: 1 | -1;
  /** CPUs in use by jobs that are not A-REX's, and the number of A-REX's own: ARC subtracts its jobs from
   * this, not their CPUs, to know what other jobs occupy. */
  running: number;
  /** Jobs, as the next two. */
  queued: number;
  suspended: number;
  total: number;
  maxrunning: number;
  maxqueuable?: number;
  maxuserrun?: number;
  totalcpus: number;
  /** CPUs that are free on the queue's nodes now: fewer than `totalcpus - running` if other queues use them
   * as well. */
  freeslots: number;
  MaxSlotsPerJob: number;
  maxwalltime?: number;
  minwalltime?: number;
  defaultwallt?: number;
  /** TORQUE limits the CPU time of the whole job; it is published as both. */
  maxcputime?: number;
  maxtotalcputime?: number;
  mincputime?: number;
  defaultcput?: number;
  /** Only if the queue is not open to everybody: local users that may use it. */
  acl_users?: string[];
  nodes: string[];
  users: Record<string, UserInformation>;
}

/** What a user could get: CPUs at once -> minutes, 0 for no limit; and the jobs that wait in the queue. */
interface UserInformation {
  freecpus: Record<string, number>;
  queuelength: number;
}

/** What there is to know about a queue, from TORQUE. */
export interface QueueFacts {
  queue: QueueDescription;
  /** Execution queues behind a routing queue that exist; none for an execution queue. */
  destinations: readonly QueueDescription[];
  server: Attributes;
  nodes: readonly TorqueNode[];
  /** Of the queue and its destinations; of all queues. */
  sums: JobSums;
  allSums: JobSums;
  /** Those of the request. */
  users: readonly string[];
  /** The primary group and the others of a user; asked for only if the queue has a list of groups. */
  groups: ReadonlyMap<string, readonly string[]>;
  /** From arc.conf. */
  totalCpus: number | undefined;
}

/** All queues that jobs of a routing queue can end up in, in the order in which TORQUE tries them. */
export function destinationsOf(
  queue: QueueDescription,
  queues: ReadonlyMap<string, QueueDescription>,
  seen = new Set([queue.name]),
): QueueDescription[] {
  return routeDestinations(queue).flatMap((name) => {
    const destination = queues.get(name);
    if (destination === undefined || seen.has(name)) return [];
    seen.add(name);
    return routeDestinations(destination).length > 0
      ? destinationsOf(destination, queues, seen)
      : [destination];
  });
}

export function describeQueue(facts: QueueFacts): QueueInformation {
  const { queue, sums } = facts;
  const onNodes = totalCpus(facts.nodes);
  const total = Math.min(onNodes, facts.totalCpus ?? onNodes);
  const open = isOpen(queue) && (facts.destinations.length === 0 || facts.destinations.some(isOpen));
  const free = open ? Math.min(freeCpus(facts.nodes), room(facts.totalCpus, sums.runningCpus)) : 0;
  const limits = timeLimits(facts);
  const maxRunning = jobLimit(facts, 'max_running');
  const maxQueuable = jobLimit(facts, 'max_queuable');
  const maxUserRun = jobLimit(facts, 'max_user_run');
  return {
    status: open ? 1 : -1,
    running: sums.runningCpus - sums.ownRunningCpus + sums.ownRunningJobs,
    queued: sums.waitingJobs,
    suspended: sums.suspendedJobs,
    total: sums.runningJobs + sums.waitingJobs + sums.suspendedJobs,
    // Without nodes nothing can run, whatever is allowed.
    maxrunning: total === 0 ? 0 : (maxRunning ?? total),
    ...(maxQueuable === undefined ? {} : { maxqueuable: maxQueuable }),
    ...(maxUserRun === undefined ? {} : { maxuserrun: maxUserRun }),
    totalcpus: total,
    freeslots: Math.min(free, room(maxRunning, sums.runningJobs)),
    MaxSlotsPerJob: resourceLimit(facts, 'resources_max.procct', countOf, 'largest') ?? total,
    ...limits,
    ...accessList(facts),
    nodes: facts.nodes.map(({ name }) => name),
    users: Object.fromEntries(
      facts.users.map((user) => [
        user,
        {
          freecpus: { [freeForUser(facts, user, free)]: minutesOf(limits.maxwalltime ?? limits.maxcputime) },
          queuelength: sums.waitingJobs,
        },
      ]),
    ),
  };
}

const minutesOf = (seconds: number | undefined) =>
  seconds === undefined || seconds === 0 ? 0 : Math.max(1, Math.floor(seconds / 60));

const room = (limit: number | undefined, used: number) =>
  limit === undefined ? Number.POSITIVE_INFINITY : Math.max(0, limit - used);

/** Limits count jobs: a user who may start two more of them can be sure of two CPUs. */
function freeForUser(facts: QueueFacts, user: string, free: number): number {
  if (!mayUse(facts, user)) return 0;
  const running = facts.sums.runningOfUser.get(user) ?? 0;
  const runningAnywhere = facts.allSums.runningOfUser.get(user) ?? 0;
  return Math.min(
    free,
    room(jobLimit(facts, 'max_running'), facts.sums.runningJobs),
    room(jobLimit(facts, 'max_user_run'), running),
    room(countOf(facts.server, 'max_running'), facts.allSums.runningJobs),
    room(countOf(facts.server, 'max_user_run'), runningAnywhere),
  );
}

/** How many jobs: the queue's own limit, or all that its destinations allow together. */
function jobLimit({ queue, destinations }: QueueFacts, key: string): number | undefined {
  const own = countOf(queue.attributes, key);
  if (own !== undefined || destinations.length === 0) return own;
  const limits = destinations.map(({ attributes }) => countOf(attributes, key));
  return limits.reduce(
    (sum, limit) => (sum === undefined || limit === undefined ? undefined : sum + limit),
    0,
  );
}

/** A limit for one job: the queue's own; else that of the destination which allows most, since TORQUE tries
 * them all; else the server's. */
function resourceLimit(
  { queue, destinations, server }: QueueFacts,
  key: string,
  read: (attributes: Attributes, key: string) => number | undefined,
  which: 'largest' | 'smallest' | 'first',
): number | undefined {
  const own = read(queue.attributes, key);
  if (own !== undefined) return own;
  const limits = destinations.map(({ attributes }) => read(attributes, key));
  const known = limits.filter((limit) => limit !== undefined);
  if (which === 'first' && limits[0] !== undefined) return limits[0];
  if (which !== 'first' && known.length > 0 && known.length === limits.length)
    return which === 'largest' ? Math.max(...known) : Math.min(...known);
  return key.startsWith('resources_min') ? undefined : read(server, key);
}

type TimeLimit =
  | 'maxwalltime'
  | 'minwalltime'
  | 'defaultwallt'
  | 'maxcputime'
  | 'maxtotalcputime'
  | 'mincputime'
  | 'defaultcput';

const TIME_LIMITS: readonly (readonly [TimeLimit, string, 'largest' | 'smallest' | 'first'])[] = [
  ['maxwalltime', 'resources_max.walltime', 'largest'],
  ['minwalltime', 'resources_min.walltime', 'smallest'],
  ['defaultwallt', 'resources_default.walltime', 'first'],
  ['maxcputime', 'resources_max.cput', 'largest'],
  ['maxtotalcputime', 'resources_max.cput', 'largest'],
  ['mincputime', 'resources_min.cput', 'smallest'],
  ['defaultcput', 'resources_default.cput', 'first'],
];

function timeLimits(facts: QueueFacts): Partial<Record<TimeLimit, number>> {
  const limits: Partial<Record<TimeLimit, number>> = {};
  for (const [name, key, which] of TIME_LIMITS) {
    const limit = resourceLimit(facts, key, durationOf, which);
    if (limit !== undefined) limits[name] = limit;
  }
  return limits;
}

/** The users that the queue names, and those asked for that it lets in by their groups. */
function accessList(facts: QueueFacts): { acl_users?: string[] } {
  const guarded = [facts.queue, ...facts.destinations].filter(
    ({ attributes }) => isOn(attributes, 'acl_user_enable') || isOn(attributes, 'acl_group_enable'),
  );
  const open = facts.destinations.some((destination) => !guarded.includes(destination));
  if (!guarded.includes(facts.queue) && (guarded.length === 0 || open)) return {};
  const named = guarded
    .filter(({ attributes }) => isOn(attributes, 'acl_user_enable'))
    .flatMap(({ attributes }) => listOf(attributes, 'acl_users'))
    .flatMap((entry) => (entry.startsWith('-') ? [] : (entry.replace(/^\+/, '').split('@')[0] ?? [])));
  return { acl_users: [...new Set([...named, ...facts.users])].filter((user) => mayUse(facts, user)) };
}

/** Whether the lists of the queue, and of one of its destinations, let a user in. */
function mayUse(facts: QueueFacts, user: string): boolean {
  const { queue, destinations } = facts;
  const enters = (one: QueueDescription) => isLetIn(one.attributes, user, facts);
  return enters(queue) && (destinations.length === 0 || destinations.some(enters));
}

function isLetIn(attributes: Attributes, user: string, { groups, server }: QueueFacts): boolean {
  const byUser = isOn(attributes, 'acl_user_enable')
    ? isListed(listOf(attributes, 'acl_users'), user)
    : undefined;
  if (!isOn(attributes, 'acl_group_enable')) return byUser ?? true;
  const [primary, ...others] = groups.get(user) ?? [];
  const counted = isOn(attributes, 'acl_group_sloppy') ? [primary, ...others] : [primary];
  const list = listOf(attributes, 'acl_groups');
  const byGroup = counted.some((group) => group !== undefined && isListed(list, group));
  if (byUser === undefined) return byGroup;
  return isOn(attributes, 'acl_logic_or') || isOn(server, 'acl_logic_or')
    ? byUser || byGroup
    : byUser && byGroup;
}

/** Entries are `name`, `name@host`, and either with `+` or `-` in front; the first that fits decides. */
function isListed(list: readonly string[], name: string): boolean {
  for (const entry of list) {
    const [, sign = '+', of = ''] = /^([+-]?)([^@]*)/.exec(entry) ?? [];
    if (of === name) return sign !== '-';
  }
  return false;
}

const isOn = (attributes: Attributes, key: string) => attributes.get(key) === 'True';
