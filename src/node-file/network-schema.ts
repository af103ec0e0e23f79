// The parts of the node file about what lies outside a guest: its network and the file systems it mounts.
import * as z from 'zod';
import { BUILT_IN_DEFAULTS, type MountConfig, type NetworkConfig } from './config.ts';
import {
  absolutePath,
  guestPath,
  hostName,
  ipAddress,
  ipv4Address,
  ipv6Address,
  isGuestPath,
  macAddress,
  nfsVersion,
  oneOf,
  text,
  wholeNumber,
  word,
} from './values.ts';

/** Refuses a key that is there without what gives it a meaning, or missing where it is needed; zod calls the
 * caller once all values are well-formed. */
function demand(context: z.core.$RefinementCtx, key: string, message: string): void {
  context.addIssue({ code: 'custom', path: [key], params: { whole: true }, message });
}

const poolEntry = z.strictObject({
  address: ipv4Address(),
  address6: ipv6Address().optional(),
  mac: macAddress().optional(),
  hostname: hostName().optional(),
});

export const networkSchema = z
  .strictObject({
    type: oneOf('user', 'bridge', 'libvirt').prefault(BUILT_IN_DEFAULTS['network.type']),
    addressing: oneOf('dhcp', 'static').prefault(BUILT_IN_DEFAULTS['network.addressing']),
    name: word('the bridge or the libvirt network').optional(),
    prefix_length: wholeNumber(8, 32).optional(),
    gateway: ipv4Address().optional(),
    prefix_length6: wholeNumber(16, 128).prefault(BUILT_IN_DEFAULTS['network.prefix_length6']),
    gateway6: ipv6Address().optional(),
    pool: z.array(poolEntry).min(1).optional(),
    dns: z.array(ipAddress()).prefault([]),
    domain: hostName().optional(),
    filter: word('auto, off, or the name of a libvirt network filter').prefault(
      BUILT_IN_DEFAULTS['network.filter'],
    ),
    lock_directory: absolutePath().optional(),
  })
  .superRefine((network, context) => {
    if (network.type === 'user') {
      for (const key of ['name', 'pool', 'prefix_length', 'gateway', 'gateway6'] as const)
        if (network[key] !== undefined)
          demand(context, key, `has no meaning with network.type user, which has addresses of its own`);
      return;
    }
    if (network.name === undefined)
      demand(context, 'name', `is missing, required with network.type ${network.type}: its name`);
    const isStatic = network.addressing === 'static';
    for (const key of ['pool', 'prefix_length'] as const)
      if (isStatic !== (network[key] !== undefined))
        demand(
          context,
          key,
          isStatic
            ? 'is missing, required with network.addressing static'
            : 'has no meaning with network.addressing dhcp',
        );
    for (const kind of ['address', 'address6', 'mac', 'hostname'] as const) {
      const seen = new Map<string, number>();
      for (const [index, entry] of (network.pool ?? []).entries()) {
        const found = entry[kind];
        if (found === undefined) continue;
        const gateway =
          kind === 'address' ? network.gateway : kind === 'address6' ? network.gateway6 : undefined;
        if (found === gateway)
          context.addIssue({
            code: 'custom',
            path: ['pool', index, kind],
            params: { whole: true },
            message: `found "${found}", which is the gateway, allowed: the address of a guest`,
          });
        const earlier = seen.get(found);
        if (earlier !== undefined)
          context.addIssue({
            code: 'custom',
            path: ['pool', index, kind],
            params: { whole: true },
            message: `found "${found}" again, allowed: once (it is in pool[${earlier}] already)`,
          });
        seen.set(found, index);
      }
    }
  });

const server = text(
  'host:/export without blanks, as the guest reaches it, such as "10.0.2.2:/share"',
  (found) => {
    const split = found.indexOf(':/');
    const host = found.slice(0, split);
    const exported = found.slice(split + 1);
    return /^([a-z0-9.-]+|\[[a-f0-9:.]+\])$/i.test(host) && (exported === '/' || isGuestPath(exported));
  },
);

export const mountSchema = z
  .strictObject({
    type: oneOf('nfs', '9p', 'virtiofs'),
    server: server.optional(),
    path: guestPath(),
    version: nfsVersion().optional(),
    port: wholeNumber(1, 65535).optional(),
    options: z
      .array(text('a mount option of a-z 0-9 _ = . : / -', (found) => /^[a-z0-9_=.:/-]+$/.test(found)))
      .prefault([]),
  })
  .superRefine((mount, context) => {
    if (mount.type === 'nfs') {
      if (mount.server === undefined)
        demand(
          context,
          'server',
          'is missing, required with type nfs: host:/export, as the guest reaches it',
        );
      return;
    }
    for (const key of ['server', 'version', 'port'] as const)
      if (mount[key] !== undefined)
        demand(
          context,
          key,
          `has no meaning with type ${mount.type}, which is the directory path of this node`,
        );
  });

export function toNetworkConfig(network: z.output<typeof networkSchema>, state: string): NetworkConfig {
  return {
    type: network.type,
    addressing: network.addressing,
    name: network.name,
    static:
      network.pool === undefined
        ? undefined
        : {
            prefixLength: network.prefix_length ?? 24,
            gateway: network.gateway,
            prefixLength6: network.prefix_length6,
            gateway6: network.gateway6,
            pool: network.pool.map(({ address, address6, mac, hostname }) => ({
              address,
              address6,
              mac,
              hostname,
            })),
          },
    dns: network.dns,
    domain: network.domain,
    filter: network.filter,
    lockDirectory: network.lock_directory ?? `${state}/leases`,
  };
}

export function toMountConfig(mount: z.output<typeof mountSchema>): MountConfig {
  const { type, path, options } = mount;
  if (type !== 'nfs') return { type, path, options };
  return {
    type,
    path,
    options,
    server: mount.server ?? '',
    version: mount.version ?? BUILT_IN_DEFAULTS['share.version'],
    port: mount.port ?? BUILT_IN_DEFAULTS['share.port'],
  };
}
