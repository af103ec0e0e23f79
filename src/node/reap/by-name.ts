// What there is of a job without a record, or with one that cannot be read: all that carries the job's id.
import { hostname } from 'node:os';
import { join } from 'node:path';
import { type Lease, listLeases, releaseLease } from '../../guest/network/lease.ts';
import { removeSession, sessionPaths } from '../../guest/session/session-file.ts';
import { domainOf, type ProcessEntry } from '../../hypervisor/guest-process.ts';
import type { Hypervisor } from '../../hypervisor/port.ts';
import { namesIn } from '../../util/files/files.ts';
import { endTurn, listTickets } from '../admission/turn.ts';
import { jobIds, jobPaths, removeJobDirectory } from '../record.ts';

export interface Place {
  state: string;
  /** Where leases are: the state directory's own, and the network's if it is another. */
  leaseDirectories: readonly string[];
}

/** Things of one job, in words, each with what removes it. */
export interface Remains {
  jobId: string;
  things: { what: string; remove: () => void | Promise<void> }[];
}

const DOMAIN = /^vmbatch-([0-9].*)$/;

/** Names of domains that are of this state directory: their disks are in it.
 * @param hypervisor undefined: only guests that are processes of this host are found */
export async function ownDomains(
  state: string,
  processes: readonly ProcessEntry[],
  hypervisor: Hypervisor | undefined,
): Promise<Set<string>> {
  const processed = new Set<string>();
  for (const { words } of processes) {
    const name = domainOf(words) ?? '';
    if (DOMAIN.test(name) && words.some((word) => word.includes(`${directoryOf(state, name)}/`)))
      processed.add(name);
  }
  if (hypervisor === undefined) return processed;
  const found = new Set<string>();
  for (const name of new Set([...processed, ...(await hypervisor.list())])) {
    if (!DOMAIN.test(name)) continue;
    // A process may call itself what it likes; libvirt knows better, unless it has lost the guest.
    const xml = await hypervisor.describe(name);
    if (xml === undefined ? processed.has(name) : xml.includes(`${directoryOf(state, name)}/`))
      found.add(name);
  }
  return found;
}

function directoryOf(state: string, domain: string): string {
  return jobPaths(state, DOMAIN.exec(domain)?.[1] ?? '').directory;
}

/** Everything on the node that carries a job's id, by the job.
 * @param domains those that are ours
 * @param hypervisor where they are ended */
export function remainsByJob(
  { state, leaseDirectories }: Place,
  domains: ReadonlySet<string>,
  hypervisor: Hypervisor,
): Remains[] {
  const all = new Map<string, Remains>();
  const add = (jobId: string, what: string, remove: () => void | Promise<void>) => {
    const remains = all.get(jobId) ?? { jobId, things: [] };
    all.set(jobId, remains);
    remains.things.push({ what, remove });
  };
  // In the order in which it is to go: the guest first, the folder of the job last.
  for (const name of domains)
    add(DOMAIN.exec(name)?.[1] ?? '', `domain ${name}`, () => hypervisor.destroy(name));
  for (const jobId of namesIn(join(state, 'sessions'))) {
    const paths = sessionPaths(state, jobId);
    add(jobId, `session ${paths.directory}`, () => removeSession(paths));
  }
  for (const directory of leaseDirectories)
    for (const { jobId, name } of ourLeases(directory))
      add(jobId, `lease ${join(directory, name)}`, () => releaseLease(directory, name, jobId));
  for (const { jobId, ticket } of listTickets(state))
    add(jobId, `ticket ${ticket}`, () => endTurn(state, ticket));
  for (const jobId of jobIds(state)) {
    const paths = jobPaths(state, jobId);
    add(jobId, `directory ${paths.directory}`, () => removeJobDirectory(paths));
  }
  return [...all.values()];
}

/** On a share, other nodes have theirs in the same directory. */
function ourLeases(directory: string): Lease[] {
  return listLeases(directory).filter(({ node }) => node === hostname());
}
