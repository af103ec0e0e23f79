// Field formats of ISO 9660 (ECMA-119): numbers in both byte orders, short and long time stamps.

/** Logical sectors and blocks of a CD-ROM; bytes. */
export const SECTOR = 2048;

export function sectorsFor(bytes: number): number {
  return Math.ceil(bytes / SECTOR);
}

// Byte by byte: an image is written once in the life of a process, and Buffer's own writers cost several
// times as much until they are compiled.

/** 16-bit number, little-endian then big-endian: 4 bytes. */
export function putBoth16(buffer: Buffer, offset: number, value: number): void {
  buffer[offset] = buffer[offset + 3] = value & 0xff;
  buffer[offset + 1] = buffer[offset + 2] = value >>> 8;
}

/** 32-bit number, little-endian then big-endian: 8 bytes. */
export function putBoth32(buffer: Uint8Array, offset: number, value: number): void {
  buffer[offset] = buffer[offset + 7] = value & 0xff;
  buffer[offset + 1] = buffer[offset + 6] = (value >>> 8) & 0xff;
  buffer[offset + 2] = buffer[offset + 5] = (value >>> 16) & 0xff;
  buffer[offset + 3] = buffer[offset + 4] = value >>> 24;
}

/** Text as UTF-8, of which the length is known. */
export function putText(bytes: Uint8Array, offset: number, text: string, length: number): void {
  if (length !== text.length) bytes.set(Buffer.from(text), offset);
  else for (let index = 0; index < length; index++) bytes[offset + index] = text.charCodeAt(index);
}

/** Text as UTF-16, the high byte of a character first. */
export function utf16BigEndian(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length * 2);
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    bytes[index * 2] = unit >>> 8;
    bytes[index * 2 + 1] = unit & 0xff;
  }
  return bytes;
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
  const iso = time.toISOString();
  const digits =
    iso.slice(0, 4) +
    iso.slice(5, 7) +
    iso.slice(8, 10) +
    iso.slice(11, 13) +
    iso.slice(14, 16) +
    iso.slice(17, 19);
  return Buffer.from(`${digits}00\0`, 'latin1');
}

/** The long time stamp that says "not given". */
export function noTime(): Buffer {
  return Buffer.from(`${'0'.repeat(16)}\0`, 'latin1');
}
