// What follows from the node's network and a job's leases: the interface in the domain, the addresses in the
// context, and how the node reaches the guest.
import { isIPv4, isIPv6 } from 'node:net';
import type { GuestNetwork } from '../../context/guest-context.ts';
import type { DomainNetwork } from '../../hypervisor/domain-xml.ts';
import type { NetworkConfig, PoolEntry } from '../../node-file/config.ts';
import { VmbatchError } from '../../util/errors.ts';

/** What a job has leased. */
export interface NetworkLeases {
  /** With `user`. */
  port: number | undefined;
  mac: string;
  /** With static addresses. */
  entry: PoolEntry | undefined;
}

export interface NetworkPlan {
  domain: DomainNetwork;
  guest: GuestNetwork;
  hostname: string;
  /** Where the guest's SSH server is; `host` is undefined where only DHCP knows. */
  host: string | undefined;
  port: number;
}

/** QEMU's user network is the same for every guest; each has it to itself. */
const USER_NETWORK = {
  address: '10.0.2.15',
  prefixLength: 24,
  gateway: '10.0.2.2',
  dns: '10.0.2.3',
  address6: undefined,
};

/** Our filter for guests with an IPv6 address, which libvirt's clean-traffic leaves without IPv6;
 * `hooks install` defines it. */
export const FILTER6 = 'vmbatch-clean-traffic6';

/** Filters for `filter: auto` that libvirt's connection knows. */
export interface KnownFilters {
  /** `clean-traffic`. */
  ipv4: boolean;
  /** {@link FILTER6}. */
  ipv6: boolean;
}

/** Pure.
 * @param filters for `filter: auto` */
export function planNetwork(
  config: NetworkConfig,
  leases: NetworkLeases,
  jobId: string,
  filters: KnownFilters,
): NetworkPlan {
  const { mac, entry } = leases;
  const { domain: searchDomain } = config;
  const hostname = entry?.hostname ?? hostnameOf(jobId, searchDomain);
  if (config.type === 'user') {
    const port = leases.port ?? 0;
    const { dns, ...address } = USER_NETWORK;
    const guest: GuestNetwork =
      config.addressing === 'dhcp'
        ? { addressing: 'dhcp', dns: config.dns, domain: searchDomain }
        : { addressing: 'static', ...address, dns: [dns, ...config.dns], domain: searchDomain };
    return {
      domain: { type: 'user', mac, forwardedPort: port },
      guest: { ...guest, mac },
      hostname,
      host: '127.0.0.1',
      port,
    };
  }
  const { ipv4, ipv6 } = filters;
  const automatic =
    entry?.address6 === undefined ? (ipv4 ? 'clean-traffic' : undefined) : ipv6 ? FILTER6 : undefined;
  const name = config.filter === 'auto' ? automatic : config.filter === 'off' ? undefined : config.filter;
  const domain: DomainNetwork = {
    type: config.type,
    name: config.name ?? '',
    mac,
    filter: name === undefined ? undefined : { name, address: entry?.address, address6: entry?.address6 },
  };
  const extra = { dns: config.dns, domain: searchDomain, mac };
  const { static: fixed } = config;
  if (entry === undefined || fixed === undefined)
    return { domain, guest: { addressing: 'dhcp', ...extra }, hostname, host: undefined, port: 22 };
  const { address6 } = entry;
  return {
    domain,
    guest: {
      addressing: 'static',
      address: entry.address,
      prefixLength: fixed.prefixLength,
      gateway: fixed.gateway,
      address6:
        address6 === undefined
          ? undefined
          : { address: address6, prefixLength: fixed.prefixLength6, gateway: fixed.gateway6 },
      ...extra,
    },
    hostname,
    host: entry.address,
    port: 22,
  };
}

/** A host name from a job id: letters, digits and hyphens, at most 63 of them; and the domain, if there is
 * one. The guests of one job differ in the end of their ids, which is kept. */
export function hostnameOf(jobId: string, domain?: string): string {
  const end = /\.node\d+$/.exec(jobId)?.[0].replace('.', '-') ?? '';
  const start = `vmbatch-${jobId.replace(/\.node\d+$/, '').replace(/[^A-Za-z0-9]+/g, '-')}`;
  const name = `${start.slice(0, 63 - end.length).replace(/-+$/, '')}${end}`.toLowerCase();
  return domain === undefined ? name : `${name}.${domain}`;
}

/** Checks an address that a guest says it has: the node is going to connect to it.
 * @param nodeAddresses all addresses of this node
 * @throws VmbatchError `node` (`address-refused`) */
export function checkReportedAddress(
  address: string,
  config: NetworkConfig,
  nodeAddresses: readonly string[],
  jobId: string,
): void {
  const found = address.toLowerCase();
  const problem =
    !isIPv4(found) && !isIPv6(found)
      ? 'is no address'
      : nodeAddresses.some((own) => own.toLowerCase() === found)
        ? 'is one of this node'
        : found === config.static?.gateway
          ? 'is the gateway'
          : isUnfit(found)
            ? 'is not one that a guest can have on its network'
            : undefined;
  if (problem === undefined) return;
  throw new VmbatchError({
    fault: 'node',
    code: 'address-refused',
    message: `the guest of job ${jobId} says that its address is ${address}, which ${problem}`,
    hint: 'the image, or its job, does not tell the truth',
    jobId,
  });
}

/** Loopback, link-local, multicast, broadcast, unspecified, and IPv4 in disguise. */
function isUnfit(address: string): boolean {
  return isIPv4(address)
    ? /^(0|127|22[4-9]|23\d|24\d|25[0-5])\.|^169\.254\./.test(address)
    : /^(::|fe[89ab]|ff)/.test(address);
}
