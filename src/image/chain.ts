// All files that an image consists of: the image, what it stands on (its backing file, and so on), and data
// that a qcow2 file keeps outside of itself. Whoever changes one of them changes what guests see.

import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { ErrorCode } from '../util/error-codes.ts';
import { errnoOf, VmbatchError } from '../util/errors.ts';

const QCOW2_MAGIC = 0x514649fb;
const BACKING_FORMAT = 0xe2792aca;
const DATA_FILE_NAME = 0x44415441;
/** Bit of the incompatible features: the data are in another file. */
const HAS_DATA_FILE = 4n;
/** Deeper than anybody stacks images. */
const MAX_FILES = 32;

/** How a file is at a moment; the same again means that it is unchanged. */
export interface FileState {
  path: string;
  size: number;
  mtimeMs: number;
  inode: number;
}

interface ImageRef {
  name: string;
  path: string;
  format: 'qcow2' | 'raw';
}

/** The files of an image, itself first.
 * @throws VmbatchError `node`: `image-absent` if one of them is not there, `image-chain` if they cannot be
 * followed */
export function imageFiles({ name, path, format }: ImageRef): string[] {
  const found: string[] = [];
  const next: { path: string; format: string | undefined }[] = [{ path, format }];
  for (;;) {
    const file = next.shift();
    if (file === undefined) return found;
    if (found.includes(file.path) || found.length >= MAX_FILES)
      throw refuse(name, 'image-chain', `${file.path} stands on itself, or on too many files`);
    const links = linksOf(name, file, found.at(-1));
    found.push(file.path);
    next.push(...links);
  }
}

/** What a file is now; undefined: it is not there.
 * @throws VmbatchError as {@link imageFiles} */
export function stateOf(path: string): FileState | undefined {
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats === undefined
    ? undefined
    : { path, size: stats.size, mtimeMs: Math.max(stats.mtimeMs, stats.ctimeMs), inode: stats.ino };
}

/** Whether a file is still as it was. */
export function isAsItWas(before: FileState): boolean {
  const now = stateOf(before.path);
  return (
    now !== undefined &&
    now.size === before.size &&
    now.mtimeMs === before.mtimeMs &&
    now.inode === before.inode
  );
}

function linksOf(
  image: string,
  { path, format }: { path: string; format: string | undefined },
  above: string | undefined,
): { path: string; format: string | undefined }[] {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    const what = above === undefined ? path : `${path}, on which ${above} stands,`;
    throw refuse(image, 'image-absent', `${what} cannot be read (${errnoOf(error)})`, error);
  }
  try {
    const header = Buffer.alloc(112);
    readSync(fd, header, 0, header.length, 0);
    // What is said to be raw is raw, whatever it begins with; where nothing is said QEMU looks.
    if (format === 'raw' || header.readUInt32BE(0) !== QCOW2_MAGIC) return [];
    const version = header.readUInt32BE(4);
    const extensions = readExtensions(fd, version >= 3 ? header.readUInt32BE(100) : 72);
    const text = (type: number) => extensions.get(type)?.toString('utf8');
    const at = (spec: string) => locate(image, path, spec);
    const links = [];
    const [offset, length] = [Number(header.readBigUInt64BE(8)), header.readUInt32BE(16)];
    if (offset !== 0 && length > 0 && length <= 1023) {
      const spec = Buffer.alloc(length);
      readSync(fd, spec, 0, length, offset);
      links.push({ path: at(spec.toString('utf8')), format: text(BACKING_FORMAT) });
    }
    if (version >= 3 && (header.readBigUInt64BE(72) & HAS_DATA_FILE) !== 0n)
      links.push({ path: at(text(DATA_FILE_NAME) ?? ''), format: 'raw' });
    return links;
  } finally {
    closeSync(fd);
  }
}

/** Header extensions: type, length, and content that is padded to eight bytes; type 0 ends them. */
function readExtensions(fd: number, from: number): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  const area = Buffer.alloc(4096);
  const got = readSync(fd, area, 0, area.length, from);
  for (let at = 0; at + 8 <= got; ) {
    const [type, length] = [area.readUInt32BE(at), area.readUInt32BE(at + 4)];
    if (type === 0 || at + 8 + length > got) break;
    found.set(type, area.subarray(at + 8, at + 8 + length));
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return found;
}

/** A name without a slash at its beginning is relative to the file that it stands in. */
function locate(image: string, from: string, spec: string): string {
  const plain = spec.startsWith('file:') ? spec.slice(5) : spec;
  if (plain === '' || /^[A-Za-z][A-Za-z0-9+.-]*:/.test(plain))
    throw refuse(
      image,
      'image-chain',
      `${from} stands on ${JSON.stringify(spec.slice(0, 200))}, which is no file of this node`,
    );
  return plain.startsWith('/') ? plain : join(dirname(from), plain);
}

function refuse(image: string, code: ErrorCode, problem: string, cause?: unknown): VmbatchError {
  const hint =
    code === 'image-absent'
      ? 'put the file there, or correct the path in the node file'
      : 'make one file of it with qemu-img convert';
  return new VmbatchError({ fault: 'node', code, message: `image ${image}: ${problem}`, hint, cause });
}
