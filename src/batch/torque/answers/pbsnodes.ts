// What the batch server knows of worker nodes.
import { commandPath, type Torque } from '../commands.ts';
import { torqueError } from '../errors.ts';
import { countIndices, parseSize } from '../units.ts';
import { DataElements } from './data-elements.ts';
import { ElementFields } from './element-fields.ts';

/** One node of `pbsnodes -x`. Sizes in KiB. */
export interface TorqueNode {
  name: string;
  /** `free`, `job-exclusive`, `offline`, `down`, ... */
  states: string[];
  /** `Running`, `Standby`, `Suspend`, ...; undefined before TORQUE 6. */
  powerState: string | undefined;
  slots: number;
  usedSlots: number;
  properties: string[];
  note: string | undefined;
  /** What the mom says of itself; absent if it never did. */
  cpus: number | undefined;
  physicalMemory: number | undefined;
  totalMemory: number | undefined;
  /** `uname -a`. */
  uname: string | undefined;
  torqueVersion: string | undefined;
  /** When the server last heard of it, by the server's clock; seconds since 1970. */
  reportedAt: number | undefined;
}

/** All nodes of the server.
 * @param onProblem told of what cannot be used, in words for the admin
 * @throws VmbatchError `site` if the server does not answer */
export async function pbsnodes(
  torque: Torque,
  { signal, onProblem }: { signal?: AbortSignal; onProblem?: (problem: string) => void } = {},
): Promise<TorqueNode[]> {
  const result = await torque.run(commandPath(torque, 'pbsnodes'), ['-x'], {
    maxBytes: 256 * 1024 * 1024,
    ...(signal === undefined ? {} : { signal }),
  });
  // How it says that the server has none.
  if (result.exitCode === 2 && /^pbsnodes: No nodes found$/m.test(result.stderr)) return [];
  if (result.exitCode !== 0) throw torqueError('pbsnodes', result, 'all nodes');
  return parsePbsnodes(result.stdout, onProblem);
}

/** @param xml the output of `pbsnodes -x`
 * @param onProblem told of what cannot be used, in words for the admin
 * @throws VmbatchError `site` for text that is not such a document */
export function parsePbsnodes(xml: string, onProblem?: (problem: string) => void): TorqueNode[] {
  const nodes: TorqueNode[] = [];
  const fields = new ElementFields();
  const elements = new DataElements({
    command: 'pbsnodes -x',
    tag: 'Node',
    onElement: (bytes, from, end) => {
      fields.moveTo(bytes, from, end);
      const node = toNode((name) => fields.text(name));
      if (typeof node === 'string') onProblem?.(`pbsnodes -x: ${node}`);
      else nodes.push(node);
    },
  });
  elements.add(Buffer.from(xml));
  elements.end();
  return nodes;
}

/** A node, or why it is none. */
function toNode(text: (name: string) => string | undefined): TorqueNode | string {
  const name = text('name');
  if (name === undefined) return 'a node has no name: it is passed over';
  const slots = text('np') ?? '1';
  if (!/^[0-9]{1,9}$/.test(slots))
    return `the node ${name} is passed over: found np ${JSON.stringify(slots.slice(0, 80))}, must be a whole number`;
  const status = `,${text('status') ?? ''}`;
  return {
    name,
    states: (text('state') ?? 'unknown').split(',').map((state) => state.trim()),
    powerState: text('power_state'),
    slots: Number(slots),
    usedSlots: countUsed(text('jobs') ?? ''),
    properties: (text('properties') ?? '').split(',').filter((property) => property !== ''),
    note: text('note'),
    cpus: Number.parseInt(statusValue(status, 'ncpus') ?? '', 10) || undefined,
    physicalMemory: parseSize(statusValue(status, 'physmem')),
    totalMemory: parseSize(statusValue(status, 'totmem')),
    uname: statusValue(status, 'uname'),
    torqueVersion: statusValue(status, 'version'),
    reportedAt: Number.parseInt(statusValue(status, 'rectime') ?? '', 10) || undefined,
  };
}

/** `1-2/67.vm,0/68.vm` or `0,3/67.vm`: the comma parts jobs and indices alike, so count what is before a
 * slash. */
function countUsed(jobs: string): number {
  let used = 0;
  let pending = 0;
  for (const part of jobs.split(',')) {
    const [list = '', job] = part.trim().split('/');
    if (!/^[0-9]+(-[0-9]+)?$/.test(list)) continue;
    pending += countIndices(list);
    if (job === undefined) continue;
    used += pending;
    pending = 0;
  }
  return used;
}

/** One value of `,opsys=linux,uname=Linux vm 6.1,...`: none holds a comma followed by a key. */
function statusValue(status: string, key: string): string | undefined {
  const found = status.indexOf(`,${key}=`);
  if (found < 0) return undefined;
  const begin = found + key.length + 2;
  let end = status.indexOf(',', begin);
  while (end >= 0 && !isKeyAt(status, end + 1)) end = status.indexOf(',', end + 1);
  return status.slice(begin, end < 0 ? status.length : end).trim();
}

function isKeyAt(status: string, at: number): boolean {
  KEY.lastIndex = at;
  return KEY.test(status);
}

const KEY = /[a-z]+=/y;
