// Where on a disk the root file system is: reads partition tables and superblocks, nothing else.
import { VmbatchError } from '../../util/errors.ts';

/** Reads `length` bytes at `offset`; fewer at the end of the disk. */
export type ReadAt = (offset: number, length: number) => Buffer;

export interface FileSystemPlace {
  /** Byte on the disk where it starts. */
  offset: number;
  /** 0: the whole disk; otherwise the number of its partition. */
  partition: number;
  kind: string;
  /** ext4 whose journal must be replayed before it is what it says. */
  needsRecovery: boolean;
}

const SECTOR = 512;
const MBR_EXTENDED = [0x05, 0x0f, 0x85];
const GPT_MBR_TYPE = 0xee;
/** Partition types that never hold a root file system: EFI system, BIOS boot, swap. As they stand on the
 * disk. */
const GPT_NEVER = new Set([
  '28732ac11ff8d211ba4b00a0c93ec93b',
  '4861682149646f6e744e656564454649',
  '6dfd5706aba4c44384e50933c84b4f4f',
]);
const MAX_PARTITIONS = 128;

/** What a file system or volume is told by, beside ext: where its mark stands, and what to call it. */
const MARKS: readonly (readonly [offset: number, mark: string, kind: string])[] = [
  [0, 'XFSB', 'XFS'],
  [0, 'LUKS\xba\xbe', 'LUKS (encrypted)'],
  [512, 'LABELONE', 'an LVM physical volume'],
  [0x10040, '_BHRfS_M', 'Btrfs'],
  [0, 'hsqs', 'SquashFS'],
  [0xff6, 'SWAPSPACE2', 'swap'],
  [54, 'FAT', 'FAT'],
  [82, 'FAT32', 'FAT'],
];

/** All file systems of a disk, in the order of its partitions. Without a partition table the disk itself is
 * looked at.
 * @throws VmbatchError `node` (`image-unsuitable`) if a partition table is broken */
export function listFileSystems(read: ReadAt): FileSystemPlace[] {
  const whole = fileSystemAt(read, 0, 0);
  if (whole !== undefined && whole.kind !== 'FAT') return [whole];
  return partitions(read).flatMap(({ offset, number }) => fileSystemAt(read, offset, number) ?? []);
}

function fileSystemAt(read: ReadAt, offset: number, partition: number): FileSystemPlace | undefined {
  const superblock = read(offset + 1024, 1024);
  if (superblock.length >= 0x68 && superblock.readUInt16LE(0x38) === 0xef53) {
    const incompatible = superblock.readUInt32LE(0x60);
    const compatible = superblock.readUInt32LE(0x5c);
    // 0x40: extents; ext2 and ext3 are written by the same programs.
    const kind = (incompatible & 0x40) !== 0 ? 'ext4' : (compatible & 0x4) !== 0 ? 'ext3' : 'ext2';
    return { offset, partition, kind, needsRecovery: (incompatible & 0x4) !== 0 };
  }
  const mark = MARKS.find(([at, text]) => read(offset + at, text.length).toString('latin1') === text);
  return mark === undefined ? undefined : { offset, partition, kind: mark[2], needsRecovery: false };
}

function partitions(read: ReadAt): { offset: number; number: number }[] {
  const mbr = read(0, SECTOR);
  if (mbr.length < SECTOR || mbr.readUInt16LE(510) !== 0xaa55) return [];
  const entries = [0, 1, 2, 3].map((index) => {
    const at = 446 + 16 * index;
    return { type: mbr[at + 4] ?? 0, start: mbr.readUInt32LE(at + 8), number: index + 1 };
  });
  if (entries.some(({ type }) => type === GPT_MBR_TYPE)) return gptPartitions(read);
  const found: { offset: number; number: number }[] = [];
  for (const { type, start, number } of entries) {
    if (type === 0) continue;
    if (MBR_EXTENDED.includes(type)) found.push(...logicalPartitions(read, start));
    else found.push({ offset: start * SECTOR, number });
  }
  return found;
}

/** The chain of an extended partition: each link has one partition and the next link. */
function logicalPartitions(read: ReadAt, extended: number): { offset: number; number: number }[] {
  const found: { offset: number; number: number }[] = [];
  let link = extended;
  for (let number = 5; number < 5 + MAX_PARTITIONS; number++) {
    const record = read(link * SECTOR, SECTOR);
    if (record.length < SECTOR || record.readUInt16LE(510) !== 0xaa55) break;
    if (record[450] !== 0) found.push({ offset: (link + record.readUInt32LE(454)) * SECTOR, number });
    const next = record.readUInt32LE(470);
    if (record[466] === 0 || next === 0) break;
    link = extended + next;
  }
  return found;
}

function gptPartitions(read: ReadAt): { offset: number; number: number }[] {
  const header = read(SECTOR, SECTOR);
  if (header.toString('latin1', 0, 8) !== 'EFI PART')
    throw unsuitable(
      'its partition table says GPT, and there is none (disks with sectors of 4096 bytes are not supported)',
    );
  const start = Number(header.readBigUInt64LE(72));
  const count = Math.min(header.readUInt32LE(80), MAX_PARTITIONS);
  const size = header.readUInt32LE(84);
  if (size < 128 || size > 4096) throw unsuitable(`its partition table is broken (entries of ${size} bytes)`);
  const table = read(start * SECTOR, count * size);
  const found: { offset: number; number: number }[] = [];
  for (let index = 0; index < count && (index + 1) * size <= table.length; index++) {
    const entry = table.subarray(index * size, (index + 1) * size);
    const type = entry.toString('hex', 0, 16);
    if (/^0*$/.test(type) || GPT_NEVER.has(type)) continue;
    found.push({ offset: Number(entry.readBigUInt64LE(32)) * SECTOR, number: index + 1 });
  }
  return found;
}

/** An image that no layer can be made of. */
export function unsuitable(why: string, hint?: string): VmbatchError {
  return new VmbatchError({
    fault: 'node',
    code: 'image-unsuitable',
    message: why,
    hint: hint ?? 'docs/images.md says what an image must be like',
  });
}
