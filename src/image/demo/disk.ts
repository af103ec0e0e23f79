// The demo guest's disk: an ext4 file system made without mounting anything, in a qcow2 file.
import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import type { Run } from '../../util/processes/run.ts';
import { runTool } from './tools.ts';

/** What the guest sees; the file holds only what is used. Room for a job's scratch files. */
export const DISK_BYTES = 2 * 1024 ** 3;

/** No journal: an overlay does not outlive its guest. The inode tables are written here and not by a kernel
 * thread in each guest. No checksums: they guard against disks that rot, not against a file of our own. */
export const FILE_SYSTEM_OPTIONS: readonly string[] = [
  ...['-q', '-F', '-t', 'ext4', '-m', '0', '-N', '65536', '-L', 'root'],
  ...['-O', '^has_journal,^metadata_csum,^64bit,^resize_inode'],
  ...['-E', 'root_owner=0:0,lazy_itable_init=0'],
];

/** Compressed, it has 6 MB instead of 16, and guests start no slower. */
export const CONVERT_OPTIONS: readonly string[] = ['-c', '-f', 'raw', '-O', 'qcow2'];

/** Writes the tree `root` into the qcow2 file `image`, through a raw file beside it. */
export async function buildDisk(run: Run, root: string, image: string): Promise<void> {
  const raw = `${image}.raw`;
  writeFileSync(raw, '');
  truncateSync(raw, DISK_BYTES);
  await runTool(run, 'mke2fs', [...FILE_SYSTEM_OPTIONS, '-d', root, raw]);
  await runTool(run, 'qemu-img', ['convert', ...CONVERT_OPTIONS, raw, image]);
  rmSync(raw);
}
