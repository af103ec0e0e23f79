// A reader for the two things that building an image asks of an ELF file: what it is linked with, and what a
// kernel module says of itself. Saves depending on binutils and kmod.
import { VmbatchError } from '../../util/errors.ts';

/** What `readelf -d` and `readelf -l` say of a 64-bit little-endian ELF file. */
export interface ElfLinks {
  /** DT_NEEDED in file order: `libc.so.6`. Empty for a static program. */
  needed: string[];
  /** The program interpreter: `/lib64/ld-linux-x86-64.so.2`. */
  interpreter: string | undefined;
}

export interface ElfSection {
  name: string;
  /** Where the header of the section stands in the file. */
  headerOffset: number;
  type: number;
  address: number;
  offset: number;
  size: number;
  link: number;
}

const SECTION_NULL = 0;
const SECTION_STRINGS = 3;
const SECTION_DYNAMIC = 6;
const SECTION_NOTHING = 8;
const DYNAMIC_NEEDED = 1;
const SEGMENT_INTERPRETER = 3;

/** Whether the bytes begin as an ELF file does. */
function isElf(bytes: Buffer): boolean {
  return bytes.length >= 4 && bytes.readUInt32BE(0) === 0x7f454c46;
}

/** The sections of an ELF file, in file order.
 * @throws VmbatchError `node` naming the file if it is cut off or of another kind. */
export function readSections(bytes: Buffer, path: string): ElfSection[] {
  return guarded(path, () => {
    checkKind(bytes, path);
    const table = Number(bytes.readBigUInt64LE(0x28));
    const entrySize = bytes.readUInt16LE(0x3a);
    const count = bytes.readUInt16LE(0x3c);
    const namesIndex = bytes.readUInt16LE(0x3e);
    const raw = Array.from({ length: count }, (_, index) => {
      const at = table + index * entrySize;
      return {
        nameOffset: bytes.readUInt32LE(at),
        headerOffset: at,
        type: bytes.readUInt32LE(at + 4),
        address: Number(bytes.readBigUInt64LE(at + 16)),
        offset: Number(bytes.readBigUInt64LE(at + 24)),
        size: Number(bytes.readBigUInt64LE(at + 32)),
        link: bytes.readUInt32LE(at + 40),
      };
    });
    const names = raw[namesIndex];
    if (raw.length > 0 && names?.type !== SECTION_STRINGS) throw broken(path, 'it has no section names');
    return raw.map(({ nameOffset, ...section }) => ({
      name: section.type === SECTION_NULL ? '' : stringAt(bytes, (names?.offset ?? 0) + nameOffset),
      ...section,
    }));
  });
}

/** The bytes of a section, or undefined if the file has none of that name.
 * @throws VmbatchError `node` as for readSections. */
export function readSection(bytes: Buffer, name: string, path: string): Buffer | undefined {
  const section = readSections(bytes, path).find((candidate) => candidate.name === name);
  if (section === undefined || section.type === SECTION_NOTHING) return undefined;
  if (section.offset + section.size > bytes.length) throw broken(path, `section ${name} is cut off`);
  return bytes.subarray(section.offset, section.offset + section.size);
}

/** What a program or shared library is linked with.
 * @throws VmbatchError `node` as for readSections. */
export function readLinks(bytes: Buffer, path: string): ElfLinks {
  const sections = readSections(bytes, path);
  return guarded(path, () => {
    const needed: string[] = [];
    const dynamic = sections.find((section) => section.type === SECTION_DYNAMIC);
    const strings = dynamic === undefined ? undefined : sections[dynamic.link];
    if (dynamic !== undefined && strings !== undefined) {
      for (let at = dynamic.offset; at < dynamic.offset + dynamic.size; at += 16) {
        if (Number(bytes.readBigInt64LE(at)) !== DYNAMIC_NEEDED) continue;
        needed.push(stringAt(bytes, strings.offset + Number(bytes.readBigUInt64LE(at + 8))));
      }
    }
    return { needed, interpreter: readInterpreter(bytes) };
  });
}

/** The `key=value` strings of a kernel module's `.modinfo`; a key may stand more than once (`alias`).
 * @throws VmbatchError `node` if the file is no kernel module. */
export function readModuleInfo(bytes: Buffer, path: string): Map<string, string[]> {
  const section = readSection(bytes, '.modinfo', path);
  if (section === undefined) throw broken(path, 'it has no .modinfo section, so it is no kernel module');
  const info = new Map<string, string[]>();
  for (const entry of section.toString('latin1').split('\0')) {
    const equals = entry.indexOf('=');
    if (equals < 1) continue;
    const key = entry.slice(0, equals);
    const values = info.get(key);
    if (values === undefined) info.set(key, [entry.slice(equals + 1)]);
    else values.push(entry.slice(equals + 1));
  }
  return info;
}

function readInterpreter(bytes: Buffer): string | undefined {
  const table = Number(bytes.readBigUInt64LE(0x20));
  const entrySize = bytes.readUInt16LE(0x36);
  const count = bytes.readUInt16LE(0x38);
  for (let at = table; at < table + count * entrySize; at += entrySize) {
    if (bytes.readUInt32LE(at) === SEGMENT_INTERPRETER)
      return stringAt(bytes, Number(bytes.readBigUInt64LE(at + 8)));
  }
  return undefined;
}

function checkKind(bytes: Buffer, path: string): void {
  if (!isElf(bytes)) throw broken(path, 'it is no ELF file');
  if (bytes[4] !== 2 || bytes[5] !== 1) throw broken(path, 'it is not 64-bit little-endian');
}

function stringAt(bytes: Buffer, offset: number): string {
  const end = bytes.indexOf(0, offset);
  if (offset >= bytes.length || end < 0) throw new RangeError('a string is cut off');
  return bytes.toString('latin1', offset, end);
}

/** Offsets come from the file: one that points outside is the file's fault, not a bug of ours. */
function guarded<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof RangeError) throw broken(path, 'it is cut off or damaged', error);
    throw error;
  }
}

function broken(path: string, why: string, cause?: unknown): VmbatchError {
  return new VmbatchError({
    fault: 'node',
    code: 'elf-unreadable',
    message: `${path} cannot be read as a program: ${why}`,
    hint: 'build the image again with --force',
    cause,
  });
}
