// Disks like those of stock images, small: a tree in an ext4 file system, alone or in a partition.
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, symlinkSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';

export const MIB = 1024 ** 2;
const SECTOR = 512;

/** Paths with their content; `-> TARGET` makes a link. */
export type Tree = Readonly<Record<string, string>>;

export const DEBIAN_SYSTEMD: Tree = {
  'usr/bin/sh': '#!',
  bin: '-> usr/bin',
  sbin: '-> usr/sbin',
  lib: '-> usr/lib',
  'usr/lib/systemd/systemd': 'elf',
  'usr/sbin/init': '-> ../lib/systemd/systemd',
  'usr/sbin/sshd': 'elf',
  'usr/sbin/mount.nfs': 'elf',
  'usr/bin/ip': 'elf',
  'etc/passwd': 'root:x:0:0::/root:/bin/sh\n',
  'etc/init.d/README': 'x',
};

export const RPM_SYSVINIT: Tree = {
  'bin/sh': '#!',
  'sbin/init': 'elf',
  'sbin/ip': 'elf',
  'sbin/mount.nfs': 'elf',
  'usr/sbin/sshd': 'elf',
  'usr/lib/x': 'x',
  'etc/passwd': 'root:x:0:0::/root:/bin/sh\n',
  'etc/rc.d/rc': '#!',
  'etc/rc.d/init.d/functions': 'x',
  'etc/rc.d/rc3.d/S10network': 'x',
  'etc/init.d': '-> rc.d/init.d',
  'etc/selinux/config': 'SELINUX=enforcing\n',
};

export const DEBIAN_SYSVINIT: Tree = {
  'bin/sh': '#!',
  'sbin/init': 'elf',
  'bin/ip': 'elf',
  'sbin/mount.nfs': 'elf',
  'usr/sbin/dropbear': 'elf',
  'etc/passwd': 'root:x:0:0::/root:/bin/sh\n',
  'etc/init.d/rc': '#!',
  'etc/rc2.d/S01x': 'x',
};

export function writeTree(root: string, tree: Tree): void {
  for (const [path, content] of Object.entries(tree)) {
    const target = join(root, path);
    mkdirSync(dirname(target), { recursive: true });
    if (content.startsWith('-> ')) symlinkSync(content.slice(3), target);
    else writeFileSync(target, content, { mode: 0o644 });
  }
}

export function makeFileSystem(path: string, root: string, bytes = 16 * MIB, type = 'ext4'): void {
  writeFileSync(path, '');
  truncateSync(path, bytes);
  execFileSync('mke2fs', ['-q', '-F', '-t', type, '-L', 'root', '-d', root, path]);
}

/** Puts bytes at places of a file that may be sparse. */
export function patch(path: string, ...parts: [offset: number, data: Buffer][]): void {
  const fd = openSync(path, 'r+');
  for (const [offset, data] of parts) writeSync(fd, data, 0, data.length, offset);
  closeSync(fd);
}

export interface Partition {
  type: number;
  /** In sectors. */
  start: number;
  sectors: number;
}

export function mbr(partitions: readonly Partition[]): Buffer {
  const sector = Buffer.alloc(SECTOR);
  for (const [index, { type, start, sectors }] of partitions.entries()) {
    const at = 446 + 16 * index;
    sector[at + 4] = type;
    sector.writeUInt32LE(start, at + 8);
    sector.writeUInt32LE(sectors, at + 12);
  }
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/** A partition table without checksums, which nobody here looks at.
 * @param partitions type GUIDs as they stand on disks, in hexadecimal */
export function gpt(partitions: readonly { type: string; start: number }[]): Buffer {
  const bytes = Buffer.alloc(34 * SECTOR);
  mbr([{ type: 0xee, start: 1, sectors: 0xffff }]).copy(bytes);
  bytes.write('EFI PART', SECTOR, 'latin1');
  bytes.writeBigUInt64LE(2n, SECTOR + 72);
  bytes.writeUInt32LE(128, SECTOR + 80);
  bytes.writeUInt32LE(128, SECTOR + 84);
  for (const [index, { type, start }] of partitions.entries()) {
    const at = 2 * SECTOR + 128 * index;
    bytes.write(type, at, 'hex');
    bytes.writeBigUInt64LE(BigInt(start), at + 32);
  }
  return bytes;
}
