// An empty mount point is told from a share, by what the node says of itself.
import { describe, expect, it } from 'vitest';
import { checkMounted, type MountSources } from '../../../../src/guest/share/mounted.ts';
import type { MountConfig } from '../../../../src/node-file/config.ts';

const ROOT = '22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw';
const mounted = (path: string, type: string) =>
  `90 22 0:51 / ${path} rw,relatime shared:9 - ${type} srv:/x rw,vers=4.2`;
const SOURCES: MountSources = {
  mountinfo: () => ROOT,
  fstab: () => '',
  exports: () => '',
  addresses: () => ['127.0.0.1', '192.0.2.7'],
  hostName: () => 'wn7',
  resolve: async (name) =>
    name === 'alias.example.org' ? ['192.0.2.7'] : name === 'nfs.example.org' ? ['192.0.2.1'] : [],
};
const nfs = (server: string, path = '/shared'): MountConfig => ({
  ...{ type: 'nfs', server, path, version: '4.1', port: 2049, options: [] },
});
const check = (share: MountConfig, sources: Partial<MountSources>) =>
  checkMounted({ share, mounts: [] }, { ...SOURCES, ...sources });

describe('a share', () => {
  it.each<[string, MountConfig, Partial<MountSources>]>([
    ['NFS', nfs('nfs.example.org:/x'), { mountinfo: () => `${ROOT}\n${mounted('/shared', 'nfs4')}` }],
    [
      'a directory in NFS',
      nfs('nfs.example.org:/x', '/shared/a'),
      { mountinfo: () => `${ROOT}\n${mounted('/shared', 'nfs')}` },
    ],
    [
      'a cluster file system that guests get by NFS',
      nfs('gw:/x'),
      { mountinfo: () => `${ROOT}\n${mounted('/shared', 'lustre')}` },
    ],
    [
      'mounted by automount, not yet looked at',
      nfs('gw:/x'),
      { mountinfo: () => `${ROOT}\n${mounted('/shared', 'autofs')}` },
    ],
    [
      'a mount point with a blank',
      nfs('gw:/x', '/my share'),
      { mountinfo: () => `${ROOT}\n${mounted('/my\\040share', 'nfs4')}` },
    ],
    ['of this node, by its address', nfs('192.0.2.7:/x'), {}],
    ['of this node, by its name', nfs('wn7.example.org:/x'), {}],
    ['of this node, by another name', nfs('alias.example.org:/x'), {}],
    [
      'of this node, as the export says',
      nfs('nfs.example.org:/x'),
      { exports: () => '/shared\t*(rw,sync)\n' },
    ],
    ["of this node, as guests on QEMU's user network see it", nfs('10.0.2.2:/x'), {}],
    ['passed in from the own disk', { type: '9p', path: '/shared', options: [] }, {}],
    [
      'in fstab and mounted',
      nfs('nfs.example.org:/x'),
      {
        fstab: () => 'srv:/x /shared/ nfs rw 0 0',
        mountinfo: () => `${ROOT}\n${mounted('/shared', 'nfs4')}`,
      },
    ],
    [
      'in fstab as a comment',
      { type: '9p', path: '/shared', options: [] },
      { fstab: () => '#srv:/x /shared nfs rw 0 0\nsrv:/x /shared nfs rw,noauto 0 0' },
    ],
  ])('is there that is %s', async (_how, share, sources) => {
    await expect(check(share, sources)).resolves.toBeUndefined();
  });

  it.each<[string, MountConfig, Partial<MountSources>, RegExp]>([
    [
      'on the own disk, with a server that is another machine',
      nfs('nfs.example.org:/x'),
      {},
      /own file system \(ext4 on \/\), and nfs.example.org:\/x is another/,
    ],
    ['on the own disk, with a server that nobody knows', nfs('gone.example.org:/x'), {}, /own file system/],
    ['on the own disk, with another address', nfs('[2001:db8::1]:/x'), {}, /own file system/],
    [
      'in fstab',
      nfs('192.0.2.7:/x'),
      { fstab: () => 'srv:/x /shared nfs4 _netdev 0 0' },
      /\/etc\/fstab has \/shared, and nothing is mounted there/,
    ],
    [
      'in fstab, with what is below it',
      nfs('192.0.2.7:/x', '/grid/session'),
      { fstab: () => 'srv:/x /grid nfs4 defaults 0 0' },
      /\/etc\/fstab has \/grid/,
    ],
    [
      'passed in, and in fstab',
      { type: 'virtiofs', path: '/shared', options: [] },
      { fstab: () => 'srv:/x /shared nfs rw 0 0' },
      /\/etc\/fstab/,
    ],
    [
      'beside one with a longer name',
      nfs('nfs.example.org:/x'),
      { mountinfo: () => `${ROOT}\n${mounted('/shared2', 'nfs4')}` },
      /own file system/,
    ],
  ])('is not mounted that is %s', async (_how, share, sources, message) => {
    await expect(check(share, sources)).rejects.toMatchObject({
      fault: 'node',
      code: 'share-not-mounted',
      message: expect.stringMatching(message),
    });
  });
});
