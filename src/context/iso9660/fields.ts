// Field formats of ISO 9660 (ECMA-119): numbers in both byte orders, short and long time stamps.

/** Logical sectors and blocks of a CD-ROM; bytes. */
export const SECTOR = 2048;

export function sectorsFor(bytes: number): number {
  return Math.ceil(bytes / SECTOR);
}

/** 16-bit number, little-endian then big-endian: 4 bytes. */
export function putBoth16(buffer: Buffer, offset: number, value: number): void {
  buffer.writeUInt16LE(value, offset);
  buffer.writeUInt16BE(value, offset + 2);
}

/** 32-bit number, little-endian then big-endian: 8 bytes. */
export function putBoth32(buffer: Buffer, offset: number, value: number): void {
  buffer.writeUInt32LE(value, offset);
  buffer.writeUInt32BE(value, offset + 4);
}

/** The 7-byte time stamp of directory records and Rock Ridge, in UTC. */
export function shortTime(time: Date): Buffer {
  return Buffer.from([
    time.getUTCFullYear() - 1900,
    time.getUTCMonth() + 1,
    time.getUTCDate(),
    time.getUTCHours(),
    time.getUTCMinutes(),
    time.getUTCSeconds(),
    0, // offset from UTC in quarters of an hour
  ]);
}

/** The 17-byte time stamp of volume descriptors, in UTC: `YYYYMMDDhhmmss00` and the offset. */
export function longTime(time: Date): Buffer {
  const digits = time
    .toISOString()
    .slice(0, 19)
    .replace(/[^0-9]/g, '');
  return Buffer.from(`${digits}00\0`, 'latin1');
}

/** The long time stamp that says "not given". */
export function noTime(): Buffer {
  return Buffer.from(`${'0'.repeat(16)}\0`, 'latin1');
}
