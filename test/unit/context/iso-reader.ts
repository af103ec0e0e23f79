// A second opinion on our images: a strict reader of both name spaces that shares no code with the writer.
const SECTOR = 2048;

export interface ReadEntry {
  path: string;
  kind: 'file' | 'directory';
  /** Whole mode, with file type; undefined in Joliet. */
  mode: number | undefined;
  data: Buffer;
}

/** Everything in one name space, without the root. Throws where the image breaks a rule of the format. */
export function readIso(image: Buffer, nameSpace: 'rock-ridge' | 'joliet' | 'plain'): ReadEntry[] {
  if (image.length % SECTOR !== 0) throw new Error('the image ends within a sector');
  const descriptor = sectorOf(image, nameSpace === 'joliet' ? 17 : 16);
  if (descriptor.toString('latin1', 1, 6) !== 'CD001') throw new Error('no volume descriptor');
  if (both32(descriptor, 80) !== image.length / SECTOR) throw new Error('volume size is not the image size');
  const entries: ReadEntry[] = [];
  const extents: { first: number; end: number }[] = [];
  const readDirectory = (at: number, bytes: number, path: string): void => {
    extents.push({ first: at, end: at + bytes / SECTOR });
    for (const record of recordsOf(image, at, bytes)) {
      const name = nameSpace === 'rock-ridge' ? rockRidgeName(image, record) : plainName(record, nameSpace);
      const extent = both32(record, 2);
      const length = both32(record, 10);
      if (extent * SECTOR + length > image.length || extent >= image.length / SECTOR)
        throw new Error(`${name} lies outside the image`);
      const data = image.subarray(extent * SECTOR, extent * SECTOR + length);
      const mode = nameSpace === 'rock-ridge' ? rockRidgeMode(image, record) : undefined;
      const isDirectory = ((record[25] ?? 0) & 2) !== 0;
      entries.push({
        path: path + name,
        kind: isDirectory ? 'directory' : 'file',
        mode,
        data: isDirectory ? Buffer.alloc(0) : data,
      });
      if (isDirectory) readDirectory(extent, length, `${path}${name}/`);
      else if (length > 0) extents.push({ first: extent, end: extent + Math.ceil(length / SECTOR) });
    }
  };
  readDirectory(both32(descriptor, 158), both32(descriptor, 166), '');
  extents.sort((a, b) => a.first - b.first);
  extents.forEach((extent, index) => {
    if (extent.first < (extents[index - 1]?.end ?? 0)) throw new Error('extents overlap');
  });
  return entries;
}

/** The directories that a path table lists, as sector numbers in order, after checking both byte orders. */
export function pathTableSectors(image: Buffer, descriptorSector: 16 | 17): number[] {
  const descriptor = sectorOf(image, descriptorSector);
  const size = both32(descriptor, 132);
  const little = image.subarray(descriptor.readUInt32LE(140) * SECTOR);
  const big = image.subarray(descriptor.readUInt32BE(148) * SECTOR);
  const sectors: number[] = [];
  let offset = 0;
  for (let lastParent = 0; offset < size; ) {
    const length = little[offset] ?? 0;
    const parent = little.readUInt16LE(offset + 6);
    if (little.readUInt32LE(offset + 2) !== big.readUInt32BE(offset + 2))
      throw new Error('path tables differ');
    if (parent !== big.readUInt16BE(offset + 6)) throw new Error('path tables differ in a parent');
    if (parent < lastParent || parent > sectors.length + 1) throw new Error('path table is out of order');
    sectors.push(little.readUInt32LE(offset + 2));
    lastParent = parent;
    offset += 8 + length + (length % 2);
  }
  if (offset !== size) throw new Error('path table size is wrong');
  return sectors;
}

function sectorOf(image: Buffer, sector: number): Buffer {
  return image.subarray(sector * SECTOR, (sector + 1) * SECTOR);
}

function both32(buffer: Buffer, offset: number): number {
  const value = buffer.readUInt32LE(offset);
  if (value !== buffer.readUInt32BE(offset + 4)) throw new Error('the two byte orders differ');
  return value;
}

/** Directory records after "." and "..", which must come first. */
function recordsOf(image: Buffer, at: number, bytes: number): Buffer[] {
  if (bytes % SECTOR !== 0) throw new Error('a directory ends within a sector');
  const records: Buffer[] = [];
  for (let sector = 0; sector < bytes / SECTOR; sector++) {
    const block = sectorOf(image, at + sector);
    for (let offset = 0; offset < SECTOR && block[offset] !== 0; ) {
      const length = block[offset] ?? 0;
      if (length % 2 !== 0 || offset + length > SECTOR) throw new Error('bad record length');
      records.push(block.subarray(offset, offset + length));
      offset += length;
    }
  }
  const [self, parent, ...others] = records;
  if (self?.[33] !== 0 || parent?.[33] !== 1) throw new Error('"." and ".." do not come first');
  return others;
}

function plainName(record: Buffer, nameSpace: 'joliet' | 'plain'): string {
  const identifier = Buffer.from(record.subarray(33, 33 + (record[32] ?? 0)));
  return nameSpace === 'joliet' ? identifier.swap16().toString('utf16le') : identifier.toString('latin1');
}

function systemUse(image: Buffer, record: Buffer): Map<string, Buffer> {
  const fields = new Map<string, Buffer>();
  const idLength = record[32] ?? 0;
  let area = record.subarray(33 + idLength + ((idLength + 1) % 2));
  while (area.length >= 4) {
    const length = area[2] ?? 0;
    if (length < 4 || length > area.length) throw new Error('bad system use field');
    fields.set(area.toString('latin1', 0, 2), area.subarray(0, length));
    area = area.subarray(length);
    const next = fields.get('CE');
    if (area.length < 4 && next !== undefined) {
      fields.delete('CE');
      const [offset, size] = [both32(next, 12), both32(next, 20)];
      if (offset + size > SECTOR) throw new Error('a continuation crosses a sector boundary');
      area = sectorOf(image, both32(next, 4)).subarray(offset, offset + size);
    }
  }
  return fields;
}

function rockRidgeName(image: Buffer, record: Buffer): string {
  const name = systemUse(image, record).get('NM');
  if (name === undefined || name[4] !== 0) throw new Error('no complete Rock Ridge name');
  return name.toString('utf8', 5);
}

function rockRidgeMode(image: Buffer, record: Buffer): number {
  const posix = systemUse(image, record).get('PX');
  if (posix === undefined) throw new Error('no Rock Ridge mode');
  if (both32(posix, 20) !== 0 || both32(posix, 28) !== 0) throw new Error('owner is not root');
  return both32(posix, 4);
}
