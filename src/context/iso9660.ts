// The ISO 9660 image that carries the context into the guest: Rock Ridge for Linux, Joliet beside it.
import { SECTOR, sectorsFor } from './iso9660/fields.ts';
import { isoBug } from './iso9660/problem.ts';
import { RockRidge } from './iso9660/rock-ridge.ts';
import { buildTree, checkVolumeLabel, type FileNode, type IsoFile, listDirectories } from './iso9660/tree.ts';
import {
  descriptorTerminator,
  JOLIET,
  layDirectories,
  PRIMARY,
  pathTableSize,
  volumeDescriptor,
  writeDirectories,
  writePathTables,
} from './iso9660/volume.ts';

export type { IsoFile } from './iso9660/tree.ts';

export interface IsoOptions {
  /** What `blkid` shows as LABEL, such as `cidata`: at most 32 of `A-Z a-z 0-9 _ - .`. */
  volumeLabel: string;
  /** The time stamp of everything in the image; whole seconds, years 1900 to 2155. */
  modified: Date;
}

/** The first sectors belong to whoever boots from the disk; we leave them empty. */
const SYSTEM_AREA_SECTORS = 16;
const DESCRIPTOR_SECTORS = 3;
/** Sizes and sector numbers are 32 bit, and nobody contextualises a guest with more. */
const MAX_IMAGE_BYTES = 0xffff_ffff;

/** An ISO 9660 image with the given files, as bytes.
 *
 * Three name spaces show the same files: plain ISO 9660 (unique 8.3 names in capitals), Rock Ridge (exact
 * names, modes, owner root; what Linux uses) and Joliet (exact names). Directories come from the paths, have
 * mode 0700 and may nest deeper than the eight levels of the standard, as Linux allows. Equal input gives
 * equal bytes, whatever the order of the files.
 * @throws VmbatchError `bug` (`iso-invalid`) for a label, path, mode, time or size that the format cannot
 * hold. */
export function buildIso(files: readonly IsoFile[], options: IsoOptions): Buffer {
  checkVolumeLabel(options.volumeLabel);
  const year = options.modified.getUTCFullYear();
  // Written so that an invalid date, whose year is NaN, fails too.
  if (!(year >= 1900 && year <= 2155))
    throw isoBug(`modified: found year ${year}, allowed: a valid time in the years 1900 to 2155`);
  const root = buildTree(files);
  const directories = listDirectories(root);

  let next = SYSTEM_AREA_SECTORS + DESCRIPTOR_SECTORS;
  const take = (sectors: number): number => {
    const first = next;
    next += sectors;
    return first;
  };
  const volumes = [PRIMARY, JOLIET].map((kind) => {
    const tableSize = pathTableSize(kind, directories);
    const littleTable = take(sectorsFor(tableSize));
    return { kind, tableSize, littleTable, bigTable: take(sectorsFor(tableSize)) };
  });
  const rockRidge = new RockRidge(options.modified);
  const laid = volumes.map((volume) => ({
    ...volume,
    directories: layDirectories(volume.kind, directories, volume.kind === PRIMARY ? rockRidge : undefined),
  }));
  for (const volume of laid) {
    for (const directory of volume.directories.values()) {
      directory.sector = take(directory.sectors);
      directory.continuation.place(take(directory.continuation.sectors));
    }
  }
  // An empty file needs no sector, but readers like one that exists: any will do that is no directory's.
  const nothing = SYSTEM_AREA_SECTORS + DESCRIPTOR_SECTORS;
  const fileNodes: FileNode[] = [];
  for (const directory of directories) {
    for (const child of directory.children) {
      if (child.kind !== 'file') continue;
      child.sector = child.data.length === 0 ? nothing : take(sectorsFor(child.data.length));
      fileNodes.push(child);
    }
  }
  if (next * SECTOR > MAX_IMAGE_BYTES)
    throw isoBug(`the files need ${next * SECTOR} bytes, an image holds at most ${MAX_IMAGE_BYTES}`);

  const image = Buffer.alloc(next * SECTOR);
  laid.forEach((volume, index) => {
    const descriptor = volumeDescriptor({
      kind: volume.kind,
      label: options.volumeLabel,
      modified: options.modified,
      totalSectors: next,
      pathTable: { size: volume.tableSize, little: volume.littleTable, big: volume.bigTable },
      root: volume.directories.get(root),
    });
    descriptor.copy(image, (SYSTEM_AREA_SECTORS + index) * SECTOR);
    writePathTables(image, volume);
    writeDirectories(image, volume.directories, options.modified);
  });
  descriptorTerminator().copy(image, (SYSTEM_AREA_SECTORS + DESCRIPTOR_SECTORS - 1) * SECTOR);
  for (const file of fileNodes) image.set(file.data, file.sector * SECTOR);
  return image;
}
