// The node's shares as a guest sees them: what it mounts, and what the hypervisor passes in for that.
import { isIP } from 'node:net';
import type { GuestContext } from '../../context/guest-context.ts';
import type { DomainDescription } from '../../hypervisor/domain-xml.ts';
import type { MountConfig, NodeConfig } from '../../node-file/config.ts';

/** What the guest mounts, at the same places as on the node. The options that `mount.nfs` would work out are
 * spelled out: a small guest may have no such helper. */
export function mountsOf(config: Pick<NodeConfig, 'share' | 'mounts'>): GuestContext['mounts'] {
  return [config.share, ...config.mounts].map((mount, index) => {
    if (mount.type !== 'nfs')
      return {
        type: mount.type,
        source: mountTag(index),
        target: mount.path,
        options: mount.type === '9p' ? ['trans=virtio', 'version=9p2000.L', ...mount.options] : mount.options,
      };
    const host = mount.server.slice(0, mount.server.lastIndexOf(':/')).replace(/^\[|\]$/g, '');
    const isVersion3 = mount.version === '3';
    // A kernel without mount.nfs knows no names: then the guest must have the helper.
    const address = isIP(host) === 0 ? [] : [`addr=${host}`];
    const mountAddress = isIP(host) === 0 ? [] : [`mountaddr=${host}`];
    return {
      type: isVersion3 ? 'nfs' : 'nfs4',
      source: mount.server,
      target: mount.path,
      options: [
        `vers=${mount.version}`,
        'proto=tcp',
        `port=${mount.port}`,
        'sec=sys',
        ...address,
        // A guest of one job has nobody to lock against, and no statd to do it with.
        ...(isVersion3 ? ['nolock', 'mountproto=tcp', ...mountAddress] : ['clientaddr=0.0.0.0']),
        ...mount.options,
      ],
    };
  });
}

/** The tag by which a guest asks for a directory that the hypervisor passes in. */
function mountTag(index: number): string {
  return `vmbatch${index}`;
}

/** The directories of the node that the hypervisor passes into the guest. */
export function filesystemsOf(
  config: Pick<NodeConfig, 'share' | 'mounts'>,
): DomainDescription['filesystems'] {
  return [config.share, ...config.mounts].flatMap((mount: MountConfig, index) =>
    mount.type === 'nfs' ? [] : [{ type: mount.type, directory: mount.path, tag: mountTag(index) }],
  );
}
