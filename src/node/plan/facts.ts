// What this node can do and what it gave the job: looked up, not assumed.

import { FILTER6, type KnownFilters } from '../../guest/network/plan.ts';
import { cachedCapabilities, checkDemands } from '../../hypervisor/capabilities.ts';
import { cpusOfJob, numaNodesOf } from '../../hypervisor/cpus.ts';
import { chooseDomainType } from '../../hypervisor/domain-type.ts';
import type { DomainType } from '../../hypervisor/port.ts';
import type { NodeConfig } from '../../node-file/config.ts';
import type { Run } from '../../util/processes/run.ts';

/** What is looked up about the node, not assumed. */
export interface NodeFacts {
  type: DomainType;
  filters: KnownFilters;
  /** The CPUs of the node that the job was given, and their NUMA nodes; undefined: not known. */
  cpus: number[] | undefined;
  numaNodes: number[] | undefined;
}

/** @throws VmbatchError `node` (`capability-missing`) for what the node file asks of libvirt and libvirt does
 * not have here. */
export async function lookUpFacts(config: NodeConfig, jobId: string, run: Run): Promise<NodeFacts> {
  const { hypervisor, network } = config;
  const type = chooseDomainType(hypervisor.type, hypervisor.uri);
  const capabilities = await cachedCapabilities(
    { uri: hypervisor.uri, type, machine: hypervisor.machine, timeoutMs: config.timeouts.virshMs, run },
    config.state,
  );
  checkDemands(config, capabilities);
  // libvirt's driver for Xen takes no notice of a filter, though the connection knows them.
  const knows = (filter: string) =>
    network.type !== 'user' && type !== 'xen' && (capabilities?.filters.includes(filter) ?? false);
  const cpus = hypervisor.pinning || hypervisor.numa ? cpusOfJob(jobId) : undefined;
  return {
    type,
    filters: { ipv4: knows('clean-traffic'), ipv6: knows(FILTER6) },
    cpus,
    numaNodes: cpus === undefined ? undefined : numaNodesOf(cpus),
  };
}
