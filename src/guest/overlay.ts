// The job's disk: a qcow2 overlay on a template image, which is never written to.
import { closeSync, openSync, readSync, statfsSync } from 'node:fs';
import { errnoOf, VmbatchError } from '../util/errors.ts';
import { describeRun, type Run } from '../util/run.ts';

const QCOW2_MAGIC = 0x514649fb;

/** @throws VmbatchError `node` if the template image is absent, unreadable or not qcow2. */
export function checkTemplateImage(name: string, path: string): void {
  const header = Buffer.alloc(8);
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    throw new VmbatchError({
      fault: 'node',
      code: 'image-absent',
      message: `image ${name}: ${path} cannot be read (${errnoOf(error)})`,
      hint: 'put the image there, or correct its path in the node file',
      cause: error,
    });
  }
  try {
    readSync(fd, header, 0, 8, 0);
  } finally {
    closeSync(fd);
  }
  const version = header.readUInt32BE(4);
  if (header.readUInt32BE(0) !== QCOW2_MAGIC || version < 2 || version > 3)
    throw new VmbatchError({
      fault: 'node',
      code: 'image-not-qcow2',
      message: `image ${name}: ${path} is not a qcow2 image`,
      hint: 'convert it: qemu-img convert -O qcow2 IMAGE NEW',
    });
}

/** @throws VmbatchError `node` if the file system of `directory` has less than `floorBytes` for root. */
export function checkFreeSpace(directory: string, floorBytes: number): void {
  const stats = statfsSync(directory);
  const free = stats.bfree * stats.bsize;
  if (free >= floorBytes) return;
  const mib = (bytes: number) => `${Math.floor(bytes / 1024 / 1024)} MiB`;
  throw new VmbatchError({
    fault: 'node',
    code: 'disk-full',
    message: `${directory} has ${mib(free)} free, a guest is started only with ${mib(floorBytes)}`,
    hint: 'make room, or lower disk.free_floor in the node file',
  });
}

/** Makes the overlay; takes the same time whatever the template's size.
 * @throws VmbatchError `node` if qemu-img fails. */
export async function createOverlay(run: Run, template: string, overlay: string): Promise<void> {
  const args = ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', template, overlay];
  const result = await run('qemu-img', args, { timeoutMs: 30_000 });
  if (result.exitCode !== 0)
    throw new VmbatchError({
      fault: 'node',
      code: 'overlay-failed',
      message: `no overlay on ${template}: ${describeRun(result)}`,
      hint: 'is qemu-utils installed, and is there room on the disk?',
    });
}
