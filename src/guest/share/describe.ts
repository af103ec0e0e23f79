// A share in words, for messages.
import type { MountConfig } from '../../node-file/config.ts';

/** `/shared (10.0.2.2:/share)` */
export function describeShare(mount: MountConfig): string {
  return mount.type === 'nfs' ? `${mount.path} (${mount.server})` : `${mount.path} (${mount.type})`;
}
