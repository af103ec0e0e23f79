import { describe, expect, it } from 'vitest';
import { listFileSystems } from '../../../../src/image/layer/root-file-system.ts';
import { gpt, MIB, mbr } from './disks.ts';

const LINUX = 'af3dc60f838472478e793d69d8477de4';
const EFI = '28732ac11ff8d211ba4b00a0c93ec93b';

/** A disk of zeros but for some places. */
function disk(...parts: [offset: number, data: Buffer][]) {
  const bytes = Buffer.alloc(8 * MIB);
  for (const [offset, data] of parts) data.copy(bytes, offset);
  return (offset: number, length: number) => bytes.subarray(offset, Math.min(offset + length, bytes.length));
}

function superblock({ extents = true, recover = false } = {}): Buffer {
  const bytes = Buffer.alloc(1024);
  bytes.writeUInt16LE(0xef53, 0x38);
  bytes.writeUInt32LE(0x4, 0x5c);
  bytes.writeUInt32LE((extents ? 0x40 : 0) | (recover ? 0x4 : 0), 0x60);
  return bytes;
}

describe('file systems of a disk', () => {
  it('is the disk itself if there is no partition table', () => {
    expect(listFileSystems(disk([1024, superblock({ recover: true })]))).toEqual([
      { offset: 0, partition: 0, kind: 'ext4', needsRecovery: true },
    ]);
  });

  it('are found in primary and logical partitions', () => {
    const found = listFileSystems(
      disk(
        [
          0,
          mbr([
            { type: 0x83, start: 2048, sectors: 2048 },
            { type: 0x05, start: 4096, sectors: 8192 },
          ]),
        ],
        [MIB + 1024, superblock({ extents: false })],
        [
          2 * MIB,
          mbr([
            { type: 0x8e, start: 2048, sectors: 2048 },
            { type: 0x05, start: 4096, sectors: 2048 },
          ]),
        ],
        [3 * MIB + 512, Buffer.from('LABELONE')],
        [4 * MIB, mbr([{ type: 0x83, start: 2048, sectors: 2048 }])],
        [5 * MIB, Buffer.from('XFSB')],
      ),
    );
    expect(found.map(({ partition, kind, offset }) => [partition, kind, offset / MIB])).toEqual([
      [1, 'ext3', 1],
      [5, 'an LVM physical volume', 3],
      [6, 'XFS', 5],
    ]);
  });

  it('are found by GPT, without what only boot loaders need', () => {
    const table = gpt([
      { type: EFI, start: 2048 },
      { type: LINUX, start: 4096 },
    ]);
    const found = listFileSystems(
      disk([0, table], [MIB + 54, Buffer.from('FAT')], [2 * MIB + 1024, superblock()]),
    );
    expect(found).toEqual([{ offset: 2 * MIB, partition: 2, kind: 'ext4', needsRecovery: false }]);
  });

  it('are none on an empty disk, and a broken GPT is told', () => {
    expect(listFileSystems(disk())).toEqual([]);
    const protective = mbr([{ type: 0xee, start: 1, sectors: 2048 }]);
    expect(() => listFileSystems(disk([0, protective]))).toThrow('its partition table says GPT');
    const broken = gpt([{ type: LINUX, start: 2048 }]);
    broken.writeUInt32LE(7, 512 + 84);
    expect(() => listFileSystems(disk([0, broken]))).toThrow('entries of 7 bytes');
  });

  it('end where a chain of logical partitions goes in circles', () => {
    const loop = mbr([
      { type: 0x83, start: 1, sectors: 1 },
      { type: 0x05, start: 1, sectors: 1 },
    ]);
    const read = disk([0, mbr([{ type: 0x05, start: 2048, sectors: 10 }])], [MIB, loop], [MIB + 512, loop]);
    expect(listFileSystems(read)).toEqual([]);
  });
});
