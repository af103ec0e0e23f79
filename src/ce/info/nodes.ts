// Nodes for the information provider: what each can be used for now, and which of them a queue has.
import { nodeProperties } from '../../arc/node-request.ts';
import type { TorqueNode } from '../../batch/torque/answers/pbsnodes.ts';
import {
  listOf,
  neededProperties,
  type QueueDescription,
  routeDestinations,
} from '../../batch/torque/answers/queues.ts';

/** A node as LRMSInfo.pm wants it, without `lcpus`: from that ARC would add a node up once for each queue
 * that it serves, and publish the sum as the CPUs of the whole cluster. */
export interface NodeInformation {
  isavailable: 0 | 1;
  isfree: 0 | 1;
  tags: string[];
  slots: number;
  /** MB, as ARC's own modules give it and GLUE2 has it, whatever the comment in LRMSInfo.pm says. */
  pmem?: number;
  vmem?: number;
  sysname?: string;
  release?: string;
  machine?: string;
}

/** What a node can be used for. */
type NodeCondition =
  | 'free'
  | 'full'
  | 'reserved'
  | 'busy'
  | 'standby'
  | 'offline'
  | 'offline-by-vmbatch'
  | 'down'
  | 'unknown';

/** Conditions in which a node's slots count: jobs run there, or would if there were room. */
const AVAILABLE: ReadonlySet<NodeCondition> = new Set(['free', 'full', 'reserved', 'busy']);

/** How vmbatch begins the note of a node that it takes out. */
const OUR_NOTE = 'vmbatch: ';

/** Somebody's decision to take a node out says more than the state that it is in beside. */
function conditionOf(node: TorqueNode): NodeCondition {
  const has = (...states: string[]) => states.some((state) => node.states.includes(state));
  if (has('offline')) return node.note?.startsWith(OUR_NOTE) ? 'offline-by-vmbatch' : 'offline';
  if (has('down')) return 'down';
  if (has('unknown', 'state-unknown')) return 'unknown';
  if (node.powerState !== undefined && node.powerState !== 'Running') return 'standby';
  if (has('reserve')) return 'reserved';
  if (has('busy')) return 'busy';
  return has('job-exclusive') || freeSlots(node) === 0 ? 'full' : 'free';
}

export const isAvailable = (node: TorqueNode) => AVAILABLE.has(conditionOf(node));

const freeSlots = (node: TorqueNode) => Math.max(0, node.slots - node.usedSlots);

/** Slots that take part in the work at all. */
export const totalCpus = (nodes: readonly TorqueNode[]) =>
  nodes.reduce((sum, node) => sum + (isAvailable(node) ? node.slots : 0), 0);

/** Slots that a job could get at once. */
export const freeCpus = (nodes: readonly TorqueNode[]) =>
  nodes.reduce((sum, node) => sum + (conditionOf(node) === 'free' ? freeSlots(node) : 0), 0);

/** `4cpu:2 8cpu:1`, of the nodes that are available. */
export function cpuDistribution(nodes: readonly TorqueNode[]): string {
  const counts = new Map<number, number>();
  for (const { slots } of nodes.filter(isAvailable)) counts.set(slots, (counts.get(slots) ?? 0) + 1);
  return [...counts]
    .sort(([a], [b]) => a - b)
    .map(([slots, count]) => `${slots}cpu:${count}`)
    .join(' ');
}

/** @param images what the guests of the node's queues may be made of: published as tags, as is a condition
 * that keeps jobs away */
export function describeNode(node: TorqueNode, images: readonly string[]): NodeInformation {
  const condition = conditionOf(node);
  const [sysname, , release, ...rest] = (node.uname ?? '').split(' ').filter(Boolean);
  const machine = rest.at(-1);
  return {
    isavailable: AVAILABLE.has(condition) ? 1 : 0,
    isfree: condition === 'free' ? 1 : 0,
    tags: [
      ...node.properties,
      ...images.map((image) => `VMBATCH-IMAGE-${image}`),
      ...(condition === 'free' || condition === 'full' ? [] : [`VMBATCH-NODE-${condition.toUpperCase()}`]),
    ],
    slots: node.slots,
    ...(node.physicalMemory === undefined ? {} : { pmem: Math.floor(node.physicalMemory / 1024) }),
    ...(node.totalMemory === undefined ? {} : { vmem: Math.floor(node.totalMemory / 1024) }),
    ...(sysname === undefined ? {} : { sysname }),
    ...(release === undefined ? {} : { release }),
    ...(machine === undefined ? {} : { machine }),
  };
}

/** Which nodes the site gives to its queues: from arc.conf. */
export interface NodeSelection {
  /** `[lrms] pbs_dedicated_node_string`: of all nodes that serve the grid; several with colons. */
  dedicatedNodeString: string | undefined;
  /** `[queue:NAME] pbs_queue_node`. */
  queue: (name: string) => { nodeProperties: readonly string[] };
}

/** The nodes that jobs of a queue can get to. By arc.conf; else by what TORQUE makes the queue's jobs ask
 * for; else by the hosts that the queue is bound to; else, as PBS.pm has it, those with the queue's name as a
 * property beside those without any; else all. A routing queue has the nodes of its destinations.
 * @param queues all queues of the server, by name */
export function nodesOfQueue(
  queue: QueueDescription,
  queues: ReadonlyMap<string, QueueDescription>,
  nodes: readonly TorqueNode[],
  selection: NodeSelection,
): TorqueNode[] {
  const dedicated = nodeProperties(selection.dedicatedNodeString?.split(':') ?? []);
  const chosen = withoutDedication(queue, queues, nodes, selection, new Set());
  return nodes.filter((node) => chosen.has(node) && hasAll(node, dedicated));
}

function withoutDedication(
  queue: QueueDescription,
  queues: ReadonlyMap<string, QueueDescription>,
  nodes: readonly TorqueNode[],
  selection: NodeSelection,
  seen: Set<string>,
): ReadonlySet<TorqueNode> {
  seen.add(queue.name);
  const configured = nodeProperties(selection.queue(queue.name).nodeProperties);
  const properties = configured.length > 0 ? configured : neededProperties(queue);
  if (properties.length > 0) return new Set(nodes.filter((node) => hasAll(node, properties)));
  const destinations = routeDestinations(queue).flatMap((name) => queues.get(name) ?? []);
  if (destinations.length > 0)
    return new Set(
      destinations
        .filter(({ name }) => !seen.has(name))
        .flatMap((destination) => [...withoutDedication(destination, queues, nodes, selection, seen)]),
    );
  const hosts = listOf(queue.attributes, 'acl_hosts');
  const names = new Set(nodes.map(({ name }) => name));
  // With the check of submitting hosts off, TORQUE takes the list for the nodes of the queue.
  if (
    queue.attributes.get('acl_host_enable') === 'False' &&
    hosts.length > 0 &&
    hosts.every((host) => names.has(host))
  )
    return new Set(nodes.filter(({ name }) => hosts.includes(name)));
  if (nodes.some((node) => node.properties.includes(queue.name)))
    return new Set(nodes.filter(({ properties: has }) => has.length === 0 || has.includes(queue.name)));
  return new Set(nodes);
}

const hasAll = (node: TorqueNode, properties: readonly string[]) =>
  properties.every((property) => node.name === property || node.properties.includes(property));

const NOTES: Readonly<Partial<Record<NodeCondition, string>>> = {
  'offline-by-vmbatch': 'taken out by vmbatch',
  offline: 'taken out by an administrator',
  standby: 'in standby',
  reserved: 'reserved',
  busy: 'too busy for more jobs',
  down: 'down',
  unknown: 'in an unknown state',
};

const MAX_NAMES = 10;

/** One line for each condition that keeps jobs away, with names: `2 of 5 nodes are down: n3, n4`. */
export function describeConditions(nodes: readonly TorqueNode[]): { ours: string[]; others: string[] } {
  const lines = { ours: [] as string[], others: [] as string[] };
  for (const [condition, what] of Object.entries(NOTES)) {
    const found = nodes.filter((node) => conditionOf(node) === condition);
    if (found.length === 0) continue;
    const names = found
      .slice(0, MAX_NAMES)
      .map(({ name, note }) => (note === undefined ? name : `${name} (${note.slice(0, 200)})`));
    const more = found.length > names.length ? ` and ${found.length - names.length} more` : '';
    const line = `${found.length} of ${nodes.length} nodes ${found.length === 1 ? 'is' : 'are'} ${what}: ${names.join(', ')}${more}`;
    (condition === 'offline-by-vmbatch' ? lines.ours : lines.others).push(line);
  }
  return lines;
}
