// What a job gets on this node, all of it: the network, the context of the guest, its domain. Pure: the
// prologue acts on it, `vmbatch context build` and `vmbatch domain show` print it.

import type { ContextSite } from '../../context/disk-files.ts';
import { guestAccount } from '../../context/guest-account.ts';
import type { GuestContext, GuestExtras } from '../../context/guest-context.ts';
import type { KeyPair } from '../../context/keys.ts';
import type { ResolvedGuestRequest } from '../../guest/grant.ts';
import { type NetworkPlan, planNetwork } from '../../guest/network/plan.ts';
import { filesystemsOf, mountsOf } from '../../guest/share/mounts.ts';
import { type DomainDescription, type DomainDisk, guestDiskNames } from '../../hypervisor/domain-xml.ts';
import type { ImageConfig, NodeConfig, PoolEntry } from '../../node-file/config.ts';
import type { Account } from '../../util/accounts/account.ts';
import { VmbatchError } from '../../util/errors.ts';
import type { NodeFacts } from './facts.ts';

export interface PlanRequest {
  config: NodeConfig;
  jobId: string;
  queue: string;
  nonce: string;
  account: Account;
  request: ResolvedGuestRequest;
  /** Seconds of the job's limit; undefined: none is known. */
  wallSeconds: number | undefined;
  leases: { port: number | undefined; mac: string; entry: PoolEntry | undefined };
  files: {
    overlay: string;
    scratch: string | undefined;
    cache: string | undefined;
    contextIso: string;
    console: string;
  };
  readyFile: string;
  jobKey: KeyPair;
  hostKey: KeyPair;
  facts: NodeFacts;
  /** Seconds since 1970; undefined: the guest's clock is left alone. */
  time: number | undefined;
  peers?: GuestExtras['peers'];
}

export interface GuestPlan {
  network: NetworkPlan;
  context: GuestContext;
  domain: DomainDescription;
}

/** Where a guest has the disk with CernVM-FS's cache. */
const CACHE_PATH = '/var/lib/cvmfs';

/** CernVM-FS's own limit, in its unit. Its makers advise to leave room for what it has deleted and somebody
 * still reads, and a file system takes some for itself. */
function cacheQuota(bytes: number): number {
  return Math.floor((bytes * 0.7) / 1024 ** 2);
}

/** @throws VmbatchError `node`: `image-hypervisor` for an image that is not for the type that this node has,
 * `domain-impossible` for a filter that would do nothing */
export function planGuest(plan: PlanRequest): GuestPlan {
  const { config, jobId, request, files, facts } = plan;
  const { hypervisors } = request.image;
  if (!hypervisors.includes(facts.type))
    throw new VmbatchError({
      fault: 'node',
      code: 'image-hypervisor',
      message: `image ${request.imageName} is for ${hypervisors.join(', ')}, and this node has ${facts.type}`,
      hint: 'add the type to the hypervisors of the image in the node file if it boots there',
    });
  const network = planNetwork(config.network, plan.leases, jobId, facts.filters);
  if (facts.type === 'xen' && network.domain.type !== 'user' && network.domain.filter !== undefined)
    throw new VmbatchError({
      fault: 'node',
      code: 'domain-impossible',
      message: `network.filter: found ${network.domain.filter.name}, and libvirt filters nothing on Xen`,
      hint: 'say "filter: off" in the node file, and filter on the bridge of the node',
    });
  const domain = planDomain(plan, network);
  const context: GuestContext = {
    jobId,
    nonce: plan.nonce,
    hostname: network.hostname,
    user: guestAccount(plan.account),
    network: network.guest,
    mounts: mountsOf(config),
    repositories: request.repositories,
    readyFile: plan.readyFile,
    hostKey: plan.hostKey.privateKey,
    authorizedKey: plan.jobKey.publicKey,
    time: plan.time,
    extras: {
      disks: guestDiskNames(domain),
      scratch: files.scratch === undefined ? undefined : config.disk.scratch.path,
      cache:
        files.cache === undefined
          ? undefined
          : { path: CACHE_PATH, quotaMebibytes: cacheQuota(config.disk.cacheBytes ?? 0) },
      ready: config.readyChannel,
      timeZone: config.time.zone,
      ntp: config.time.ntp,
      cvmfs: { proxy: config.cvmfs.proxy, server: config.cvmfs.server },
      beforeJob: config.context.beforeJob !== undefined,
      afterJob: config.context.afterJob !== undefined,
      machineFeatures: {
        total_cpu: request.vcpus,
        ...(config.features.hs06 === undefined ? {} : { hs06: config.features.hs06 }),
      },
      jobFeatures: jobFeatures(plan),
      peers: plan.peers,
    },
  };
  return { network, context, domain };
}

/** Machine/Job Features (HSF-TN-2016-02): what this job was given. */
function jobFeatures({ jobId, request, wallSeconds, time }: PlanRequest): Record<string, string | number> {
  return {
    job_id: jobId,
    allocated_cpu: request.vcpus,
    max_rss_bytes: request.memoryBytes,
    ...(request.scratchBytes === 0 ? {} : { max_scratch_bytes: request.scratchBytes }),
    ...(wallSeconds === undefined ? {} : { wall_limit_secs: wallSeconds }),
    ...(time === undefined ? {} : { jobstart_secs: time }),
  };
}

function planDomain(
  { config, jobId, request, files, facts }: PlanRequest,
  network: NetworkPlan,
): DomainDescription {
  const { hypervisor } = config;
  const disks: DomainDisk[] = [{ file: files.overlay, format: 'qcow2', role: 'root' }];
  if (files.scratch !== undefined) disks.push({ file: files.scratch, format: 'raw', role: 'scratch' });
  if (files.cache !== undefined) disks.push({ file: files.cache, format: 'raw', role: 'cache' });
  return {
    name: `vmbatch-${jobId}`,
    type: facts.type,
    machine: hypervisor.machine,
    cpu: hypervisor.cpu,
    xenMode: hypervisor.xenMode,
    vcpus: request.vcpus,
    memoryBytes: request.memoryBytes,
    boot: request.image.boot,
    disks,
    contextIso: files.contextIso,
    consoleLog: files.console,
    network: network.domain,
    filesystems: filesystemsOf(config),
    agent: config.readyChannel === 'agent',
    tuning: {
      cpus: hypervisor.pinning ? facts.cpus : undefined,
      numaNodes: hypervisor.numa ? facts.numaNodes : undefined,
      hugepageBytes: hypervisor.hugepageBytes,
      cpuShares: hypervisor.cpuShares,
      ioWeight: hypervisor.ioWeight,
      partition: hypervisor.partition,
    },
  };
}

/** What of the node's configuration goes into the context disk beside the plan. */
export function siteOf(
  config: NodeConfig,
  { contextualisation, sshKeys }: Pick<ImageConfig, 'contextualisation' | 'sshKeys'>,
  loaded: Pick<ContextSite, 'siteParts' | 'scripts' | 'service'>,
): ContextSite {
  const { proxy, server, tag, organisation } = config.cvmfs;
  return {
    kind: contextualisation,
    keyType: sshKeys,
    cvmfs: { proxy, server, tag, organisation },
    ...loaded,
  };
}
