// What the batch server knows of worker nodes.
import { commandPath, type Torque } from './commands.ts';
import { torqueError } from './errors.ts';
import { countIndices, parseSize } from './units.ts';
import { numberOf, parseData, textOf, type XmlElement } from './xml.ts';

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
}

/** All nodes of the server.
 * @throws VmbatchError `site` if the server does not answer */
export async function pbsnodes(torque: Torque, signal?: AbortSignal): Promise<TorqueNode[]> {
  const result = await torque.run(commandPath(torque, 'pbsnodes'), ['-x'], {
    maxBytes: 256 * 1024 * 1024,
    ...(signal === undefined ? {} : { signal }),
  });
  if (result.exitCode !== 0) throw torqueError('pbsnodes', result, 'all nodes');
  return parsePbsnodes(result.stdout);
}

/** @param xml the output of `pbsnodes -x` */
export async function parsePbsnodes(xml: string): Promise<TorqueNode[]> {
  return (await parseData(xml, 'Node', 'pbsnodes -x')).flatMap((element) => toNode(element) ?? []);
}

function toNode(element: XmlElement): TorqueNode | undefined {
  const name = textOf(element, 'name');
  if (name === undefined) return undefined;
  const status = `,${textOf(element, 'status') ?? ''}`;
  return {
    name,
    states: (textOf(element, 'state') ?? 'unknown').split(','),
    powerState: textOf(element, 'power_state'),
    slots: numberOf(element, 'np') ?? 1,
    usedSlots: countUsed(textOf(element, 'jobs') ?? ''),
    properties: (textOf(element, 'properties') ?? '').split(',').filter((property) => property !== ''),
    note: textOf(element, 'note'),
    cpus: Number.parseInt(statusValue(status, 'ncpus') ?? '', 10) || undefined,
    physicalMemory: parseSize(statusValue(status, 'physmem')),
    totalMemory: parseSize(statusValue(status, 'totmem')),
    uname: statusValue(status, 'uname'),
    torqueVersion: statusValue(status, 'version'),
  };
}

/** `1-2/67.vm,0/68.vm` or `0,3/67.vm`: the comma parts jobs and indices alike, so count what is before a slash. */
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
