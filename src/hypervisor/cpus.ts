// The CPUs of the node that TORQUE gave to a job (cpusets), and the NUMA nodes that they belong to.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Where moms keep the cpusets of jobs: TORQUE 4 to 6 with cpusets, with cgroups version 1, and under a
 * unified hierarchy. */
const CPUSETS: readonly ((jobId: string) => string)[] = [
  (jobId) => `dev/cpuset/torque/${jobId}/cpus`,
  (jobId) => `dev/cpuset/torque/${jobId}/cpuset.cpus`,
  (jobId) => `sys/fs/cgroup/cpuset/torque/${jobId}/cpuset.cpus`,
  (jobId) => `sys/fs/cgroup/torque/${jobId}/cpuset.cpus`,
];

/** More than any machine has; a bound for what a file may say. */
const MAX_CPUS = 8192;

/** The CPUs of a job, ascending; undefined if TORQUE has no cpuset for it.
 * @param root for tests */
export function cpusOfJob(jobId: string, root = '/'): number[] | undefined {
  for (const path of CPUSETS) {
    const text = read(join(root, path(jobId)));
    const cpus = text === undefined ? undefined : parseCpus(text);
    if (cpus !== undefined && cpus.length > 0) return cpus;
  }
  return undefined;
}

/** The NUMA nodes that have any of the CPUs; undefined where the kernel tells of no nodes. */
export function numaNodesOf(cpus: readonly number[], root = '/'): number[] | undefined {
  const directory = join(root, 'sys/devices/system/node');
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch {
    return undefined;
  }
  const nodes = names
    .map((name) => /^node(\d+)$/.exec(name)?.[1])
    .filter((node) => node !== undefined)
    .map(Number)
    .filter((node) => {
      const list = parseCpus(read(join(directory, `node${node}/cpulist`)) ?? '') ?? [];
      return list.some((cpu) => cpus.includes(cpu));
    })
    .sort((a, b) => a - b);
  return nodes.length === 0 ? undefined : nodes;
}

/** CPUs of a list such as `0-3,8`, as the kernel writes it; undefined if it is no such list. */
export function parseCpus(text: string): number[] | undefined {
  const trimmed = text.trim();
  if (trimmed === '') return [];
  const cpus = new Set<number>();
  for (const part of trimmed.split(',')) {
    const match = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part);
    if (match === null) return undefined;
    const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
    if (last < first || last >= MAX_CPUS) return undefined;
    for (let cpu = first; cpu <= last; cpu++) cpus.add(cpu);
  }
  return [...cpus].sort((a, b) => a - b);
}

/** As libvirt takes it: `0,1,2,8`. */
export function listOfCpus(cpus: readonly number[]): string {
  return cpus.join(',');
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
