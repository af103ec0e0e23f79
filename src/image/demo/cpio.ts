// The archive format of an initramfs (cpio, "newc"): a pure writer.

export interface CpioEntry {
  /** Relative, without a leading slash; parents come before what is in them. */
  path: string;
  /** Permission bits. */
  mode: number;
  /** A regular file's bytes; a directory if absent. */
  data?: Uint8Array;
}

const DIRECTORY = 0o040000;
const REGULAR = 0o100000;

/** An archive of files and directories that belong to root and have no time stamp, so that the same input
 * gives the same bytes. It is not compressed: unpacking costs an emulated guest more than reading it. */
export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const parts: Buffer[] = [];
  let inode = 1;
  for (const entry of entries) {
    const type = entry.data === undefined ? DIRECTORY : REGULAR;
    parts.push(...member(entry.path, type | entry.mode, entry.data ?? new Uint8Array(), inode++));
  }
  parts.push(...member('TRAILER!!!', 0, new Uint8Array(), 0));
  return Buffer.concat(parts);
}

function member(path: string, mode: number, data: Uint8Array, inode: number): Buffer[] {
  const name = Buffer.from(`${path}\0`);
  const links = mode >= DIRECTORY && mode < REGULAR ? 2 : 1;
  const fields = [inode, mode, 0, 0, links, 0, data.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(`070701${fields.map((value) => value.toString(16).padStart(8, '0')).join('')}`);
  return [padded(Buffer.concat([header, name])), padded(Buffer.from(data))];
}

/** Headers and data begin at multiples of four bytes. */
function padded(part: Buffer): Buffer {
  return Buffer.concat([part], Math.ceil(part.length / 4) * 4);
}
