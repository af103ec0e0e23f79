// The node's network and share as a guest sees them.
import type { NodeConfig } from '../config/node.ts';
import type { GuestContext } from '../context/guest-context.ts';

/** QEMU's user network is the same for every guest; each has it to itself. */
const USER_NETWORK = { address: '10.0.2.15', prefixLength: 24, gateway: '10.0.2.2', dns: ['10.0.2.3'] };

export function networkOf(config: NodeConfig): GuestContext['network'] {
  return config.network.addressing === 'dhcp'
    ? { addressing: 'dhcp' }
    : { addressing: 'static', ...USER_NETWORK };
}

/** What the guest mounts, at the same places as on the node. The options that `mount.nfs` would work out are spelled out: a
 * small guest may have no such helper. */
export function mountsOf(config: NodeConfig): GuestContext['mounts'] {
  return [config.share, ...config.mounts].map((mount, index) => {
    if (mount.type !== 'nfs')
      return {
        type: mount.type,
        source: mountTag(index),
        target: mount.path,
        options: mount.type === '9p' ? ['trans=virtio', 'version=9p2000.L', ...mount.options] : mount.options,
      };
    const host = mount.server.slice(0, mount.server.indexOf(':/')).replace(/^\[|\]$/g, '');
    const isVersion3 = mount.version === '3';
    return {
      type: isVersion3 ? 'nfs' : 'nfs4',
      source: mount.server,
      target: mount.path,
      options: [
        `vers=${mount.version}`,
        'proto=tcp',
        `port=${mount.port}`,
        'sec=sys',
        `addr=${host}`,
        // A guest of one job has nobody to lock against, and no statd to do it with.
        ...(isVersion3 ? ['nolock'] : ['clientaddr=0.0.0.0']),
        ...mount.options,
      ],
    };
  });
}

/** The tag by which a guest asks for a directory that the hypervisor passes in. */
export function mountTag(index: number): string {
  return `vmbatch${index}`;
}
