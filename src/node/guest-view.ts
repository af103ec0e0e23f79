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

/** The share, mounted at the same place as on the node. The options that `mount.nfs` would work out are
 * spelled out: a small guest may have no such helper. */
export function mountsOf(config: NodeConfig): GuestContext['mounts'] {
  const { share } = config;
  const host = share.server.slice(0, share.server.indexOf(':/')).replace(/^\[|\]$/g, '');
  return [
    {
      type: 'nfs4',
      source: share.server,
      target: share.path,
      options: [
        `vers=${share.version}`,
        'proto=tcp',
        `port=${share.port}`,
        'sec=sys',
        `addr=${host}`,
        'clientaddr=0.0.0.0',
        ...share.options,
      ],
    },
  ];
}
