// The job's disk: a qcow2 overlay on a template image, which is never written to.
import { accessSync, closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import type { ImageConfig } from '../../node-file/config.ts';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import { printable } from '../../util/log.ts';
import { describeRun, type Run, type RunResult } from '../../util/processes/run.ts';
import { commandLine } from '../../util/quote.ts';

const QCOW2_MAGIC = 0x514649fb;

/** @throws VmbatchError `node` if the template image is absent, unreadable or not what it is said to be. */
export function checkTemplateImage(name: string, path: string, format: 'qcow2' | 'raw'): void {
  const header = Buffer.alloc(8);
  const unreadable = (why: string, cause?: unknown) =>
    new VmbatchError({
      fault: 'node',
      code: 'image-absent',
      message: `image ${name}: ${path} ${why}`,
      hint: 'put the image there, or correct its path in the node file',
      cause,
    });
  try {
    // A FIFO must not hold us up.
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = fstatSync(fd);
      if (stats.isDirectory()) throw unreadable('is a directory');
      if (!stats.isFile() && !stats.isBlockDevice()) throw unreadable('is neither a file nor a disk');
      if (stats.isFile() && stats.size === 0) throw unreadable('is empty');
      readSync(fd, header, 0, 8, 0);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (error instanceof VmbatchError) throw error;
    throw unreadable(`cannot be read (${errnoOf(error)})`, error);
  }
  const isQcow2 = header.readUInt32BE(0) === QCOW2_MAGIC;
  const version = header.readUInt32BE(4);
  if (format === 'raw' && isQcow2)
    throw new VmbatchError({
      fault: 'node',
      code: 'image-not-raw',
      message: `image ${name}: ${path} is a qcow2 image, the node file says raw`,
      hint: 'correct its format in the node file',
    });
  if (format === 'qcow2' && (!isQcow2 || version < 2 || version > 3))
    throw new VmbatchError({
      fault: 'node',
      code: 'image-not-qcow2',
      message: `image ${name}: ${path} is not a qcow2 image`,
      hint: `correct its format in the node file, or convert it: ${commandLine('qemu-img', 'convert', '-O', 'qcow2', path, `${path}.qcow2`)}`,
    });
}

/** @throws VmbatchError `node` (`image-absent`) if a kernel that the image is booted with cannot be read */
export function checkBootFiles(name: string, boot: ImageConfig['boot']): void {
  if (boot.type !== 'kernel') return;
  for (const [what, path] of [['kernel', boot.kernel] as const, ['initrd', boot.initrd] as const])
    try {
      accessSync(path, constants.R_OK);
    } catch (error) {
      throw new VmbatchError({
        fault: 'node',
        code: 'image-absent',
        message: `image ${name}: its ${what} ${path} cannot be read (${errnoOf(error)})`,
        hint: `put it there, or correct boot.${what} in the node file`,
        cause: error,
      });
    }
}

/** Has QEMU open the image: what was cut off, or is no image behind its header, shows then only.
 * @throws VmbatchError `node` (`image-broken`) */
export async function checkWithQemu(
  run: Run,
  { path, format }: Pick<ImageConfig, 'path' | 'format'>,
): Promise<void> {
  const result = await run('qemu-img', ['info', '-U', '-f', format, path], { timeoutMs: 10_000 });
  if (result.exitCode === 0 || result.notFound) return;
  throw brokenImage(path, result);
}

function brokenImage(path: string, result: RunResult): VmbatchError {
  return new VmbatchError({
    fault: 'node',
    code: 'image-broken',
    message: `QEMU cannot open the image ${path}: ${allSaid(result)}`,
    hint: 'was it copied as a whole? fetch it again',
  });
}

/** The reason stands before the last line. */
function allSaid(result: RunResult): string {
  return printable(result.stderr.trim().replaceAll('\n', ': ')) || describeRun(result);
}

/** Makes the overlay; takes the same time whatever the template's size.
 * @throws VmbatchError `node` if qemu-img fails. */
export async function createOverlay(
  run: Run,
  { path: template, format }: { path: string; format: 'qcow2' | 'raw' },
  overlay: string,
): Promise<void> {
  const args = ['create', '-q', '-f', 'qcow2', '-F', format, '-b', template, overlay];
  const result = await run('qemu-img', args, { timeoutMs: 30_000 });
  if (result.exitCode === 0) return;
  if (/could not open backing/i.test(result.stderr)) throw brokenImage(template, result);
  throw new VmbatchError({
    fault: 'node',
    code: 'overlay-failed',
    message: `no overlay on ${template}: ${result.notFound ? describeRun(result) : allSaid(result)}`,
    hint: 'is qemu-utils installed, and is there room on the disk?',
  });
}

/** What a qcow2 file stands on, as it is written in it; undefined if nothing, or if it is no qcow2 file. */
export function readBackingFile(path: string): string | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const header = Buffer.alloc(20);
    if (readSync(fd, header, 0, 20, 0) < 20 || header.readUInt32BE(0) !== QCOW2_MAGIC) return undefined;
    const [offset, length] = [Number(header.readBigUInt64BE(8)), header.readUInt32BE(16)];
    // The format allows no longer name.
    if (offset === 0 || length === 0 || length > 1023) return undefined;
    const name = Buffer.alloc(length);
    return name.toString('utf8', 0, readSync(fd, name, 0, length, offset));
  } finally {
    closeSync(fd);
  }
}
