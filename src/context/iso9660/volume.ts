// One name space of the image, primary or Joliet: volume descriptor, path tables, directories.
import {
  longTime,
  noTime,
  putBoth16,
  putBoth32,
  putText,
  SECTOR,
  shortTime,
  utf16BigEndian,
} from './fields.ts';
import { isoBug } from './problem.ts';
import { ContinuationArea, type RecordRole, type RockRidge } from './rock-ridge.ts';
import type { DirectoryNode, TreeNode } from './tree.ts';

/** How the names of one volume are written and ordered. */
export interface VolumeKind {
  descriptorType: 1 | 2;
  /** Registers the character set of a supplementary volume; empty for the primary one. */
  escapeSequence: string;
  identifier(node: TreeNode): Uint8Array;
  /** Records stand in the order of these keys. */
  sortKey(node: TreeNode): string;
  /** A blank: what descriptors' text fields are filled up with. */
  blank: Uint8Array;
  /** A descriptor's text, for at most so many bytes. */
  text(value: string, length: number): Uint8Array;
}

export const PRIMARY: VolumeKind = {
  descriptorType: 1,
  escapeSequence: '',
  identifier: (node) => ascii(primaryName(node)),
  // Name and extension are compared one after the other, as if padded with blanks.
  sortKey: (node) => {
    const [stem = '', extension = ''] = node.shortName.split('.');
    return stem.padEnd(8) + extension.padEnd(3);
  },
  blank: Buffer.from(' '),
  text: (value, length) => ascii(value.slice(0, length)),
};

export const JOLIET: VolumeKind = {
  descriptorType: 2,
  escapeSequence: '%/E',
  identifier: (node) => utf16BigEndian(node.name),
  sortKey: (node) => node.name.replaceAll('.', '\0'),
  blank: Buffer.from('\0 '),
  // Longer text is cut: Joliet's label has 16 characters.
  text: (value, length) => utf16BigEndian(value.slice(0, Math.floor(length / 2))),
};

/** The standard wants a dot in every file name, and a version. */
function primaryName(node: TreeNode): string {
  if (node.kind === 'directory') return node.shortName;
  return `${node.shortName}${node.shortName.includes('.') ? '' : '.'};1`;
}

function ascii(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  putText(bytes, 0, text, text.length);
  return bytes;
}

interface DirectoryRecord {
  identifier: Uint8Array;
  systemUse: Uint8Array;
  target: TreeNode;
  length: number;
}

export interface LaidDirectory {
  /** Position in the path table, from 1. */
  number: number;
  parentNumber: number;
  identifier: Uint8Array;
  records: DirectoryRecord[];
  sectors: number;
  /** Comes right behind the directory. */
  continuation: ContinuationArea;
  /** Set when the image is laid out. */
  sector: number;
}

const NOTHING = Buffer.alloc(0);
const SELF = Buffer.from([0]);
const PARENT = Buffer.from([1]);

/** The records of every directory, in path table order. */
export function layDirectories(
  kind: VolumeKind,
  directories: readonly DirectoryNode[],
  rockRidge: RockRidge | undefined,
): Map<DirectoryNode, LaidDirectory> {
  const laid = new Map<DirectoryNode, LaidDirectory>();
  const [root] = directories;
  // The map grows while it is walked: level by level, in each the children of earlier parents first.
  const queue = root === undefined ? [] : [root];
  for (const directory of queue) {
    const isRoot = directory === root;
    const continuation = new ContinuationArea();
    const record = (role: RecordRole, target: TreeNode, identifier: Uint8Array): DirectoryRecord => {
      const fixed = 33 + identifier.length + ((identifier.length + 1) % 2);
      const systemUse = rockRidge?.systemUse(role, target, fixed, continuation) ?? NOTHING;
      const length = fixed + systemUse.length;
      return { identifier, systemUse, target, length: length + (length % 2) };
    };
    const keyed = directory.children.map((child) => ({ child, key: kind.sortKey(child) }));
    keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
    const records = [
      record(isRoot ? 'root-self' : 'self', directory, SELF),
      record('parent', directory.parent, PARENT),
    ];
    for (const { child } of keyed) {
      records.push(record('child', child, kind.identifier(child)));
      if (child.kind === 'directory') queue.push(child);
    }
    let bytes = 0;
    for (const { length } of records) bytes = placeRecord(bytes, length) + length;
    laid.set(directory, {
      number: laid.size + 1,
      parentNumber: laid.get(directory.parent)?.number ?? 1,
      identifier: isRoot ? SELF : kind.identifier(directory),
      records,
      sectors: Math.ceil(bytes / SECTOR),
      continuation,
      sector: 0,
    });
  }
  return laid;
}

/** Where a record of this length goes: no record crosses a sector boundary. */
function placeRecord(offset: number, length: number): number {
  const left = SECTOR - (offset % SECTOR);
  return length > left ? offset + left : offset;
}

/** Writes every directory at its sector, and what it continues in. */
export function writeDirectories(
  image: Buffer,
  directories: ReadonlyMap<DirectoryNode, LaidDirectory>,
  modified: Date,
): void {
  const time = shortTime(modified);
  for (const directory of directories.values()) {
    directory.continuation.write(image, directory.sector + directory.sectors);
    let offset = 0;
    for (const record of directory.records) {
      offset = placeRecord(offset, record.length);
      const extent = extentOf(record.target, directories);
      writeRecord(image, directory.sector * SECTOR + offset, record, extent, time);
      offset += record.length;
    }
  }
}

interface Extent {
  sector: number;
  bytes: number;
}

function extentOf(node: TreeNode, directories: ReadonlyMap<DirectoryNode, LaidDirectory>): Extent {
  if (node.kind === 'file') return { sector: node.sector, bytes: node.data.length };
  const laid = directories.get(node);
  if (laid === undefined) throw isoBug(`directory ${JSON.stringify(node.name)} has no place`);
  return { sector: laid.sector, bytes: laid.sectors * SECTOR };
}

function writeRecord(
  buffer: Buffer,
  at: number,
  record: Omit<DirectoryRecord, 'target'> & { target: { kind: TreeNode['kind'] } },
  extent: Extent,
  time: Buffer,
): void {
  buffer[at] = record.length;
  putBoth32(buffer, at + 2, extent.sector);
  putBoth32(buffer, at + 10, extent.bytes);
  buffer.set(time, at + 18);
  buffer[at + 25] = record.target.kind === 'directory' ? 2 : 0;
  putBoth16(buffer, at + 28, 1);
  buffer[at + 32] = record.identifier.length;
  buffer.set(record.identifier, at + 33);
  const systemUseAt = at + 33 + record.identifier.length + ((record.identifier.length + 1) % 2);
  buffer.set(record.systemUse, systemUseAt);
}

/** Bytes of one path table: known from the names alone. */
export function pathTableSize(kind: VolumeKind, directories: readonly DirectoryNode[]): number {
  let size = 0;
  directories.forEach((directory, index) => {
    const length = index === 0 ? 1 : kind.identifier(directory).length;
    size += 8 + length + (length % 2);
  });
  return size;
}

/** Writes both path tables, one in each byte order. */
export function writePathTables(
  image: Buffer,
  volume: {
    littleTable: number;
    bigTable: number;
    directories: ReadonlyMap<DirectoryNode, LaidDirectory>;
  },
): void {
  let offset = 0;
  for (const { identifier, sector, parentNumber } of volume.directories.values()) {
    const little = volume.littleTable * SECTOR + offset;
    const big = volume.bigTable * SECTOR + offset;
    for (const at of [little, big]) {
      image[at] = identifier.length;
      image.set(identifier, at + 8);
    }
    image.writeUInt32LE(sector, little + 2);
    image.writeUInt16LE(parentNumber, little + 6);
    image.writeUInt32BE(sector, big + 2);
    image.writeUInt16BE(parentNumber, big + 6);
    offset += 8 + identifier.length + (identifier.length % 2);
  }
}

export interface DescriptorData {
  kind: VolumeKind;
  label: string;
  modified: Date;
  totalSectors: number;
  pathTable: { size: number; little: number; big: number };
  root: LaidDirectory | undefined;
}

/** A primary or supplementary volume descriptor: one sector. */
export function volumeDescriptor(data: DescriptorData): Buffer {
  const { kind, pathTable, root } = data;
  if (root === undefined) throw isoBug('the root directory has no place');
  const sector = descriptorStart(kind.descriptorType);
  const text = (value: string, offset: number, length: number) => {
    // A field of odd length ends with a zero byte where a character has two.
    sector.fill(kind.blank, offset, offset + length - (length % kind.blank.length));
    if (value !== '') sector.set(kind.text(value, length), offset);
  };
  text('LINUX', 8, 32);
  text(data.label, 40, 32);
  putBoth32(sector, 80, data.totalSectors);
  sector.write(kind.escapeSequence, 88, 'latin1');
  putBoth16(sector, 120, 1); // volumes in the set
  putBoth16(sector, 124, 1); // number of this volume
  putBoth16(sector, 128, SECTOR);
  putBoth32(sector, 132, pathTable.size);
  sector.writeUInt32LE(pathTable.little, 140);
  sector.writeUInt32BE(pathTable.big, 148);
  writeRecord(
    sector,
    156,
    { identifier: SELF, systemUse: NOTHING, target: { kind: 'directory' }, length: 34 },
    { sector: root.sector, bytes: root.sectors * SECTOR },
    shortTime(data.modified),
  );
  for (const offset of [190, 318, 446]) text('', offset, 128); // volume set, publisher, preparer
  text('VMBATCH', 574, 128);
  for (const offset of [702, 739, 776]) text('', offset, 37); // copyright, abstract, bibliography
  const time = longTime(data.modified);
  sector.set(time, 813); // created
  sector.set(time, 830); // modified
  noTime().copy(sector, 847); // expires
  noTime().copy(sector, 864); // effective
  sector[881] = 1; // file structure version
  return sector;
}

/** The descriptor that ends the list of descriptors: one sector. */
export function descriptorTerminator(): Buffer {
  return descriptorStart(255);
}

function descriptorStart(type: number): Buffer {
  const sector = Buffer.alloc(SECTOR);
  sector[0] = type;
  sector.write('CD001', 1, 'latin1');
  sector[6] = 1;
  return sector;
}
