// Small ELF files for tests: a table of sections around whatever bytes they are given.

export interface SectionToBuild {
  name: string;
  type: number;
  data: Buffer;
  link?: number;
  alignment?: number;
}

/** An ELF file with these sections (numbered from 1) and a section of names at the end. */
export function buildElf(sections: readonly SectionToBuild[], interpreter?: string): Buffer {
  const names = Buffer.from(['', ...sections.map(({ name }) => name), '.shstrtab', ''].join('\0'), 'latin1');
  const all = [...sections, { name: '.shstrtab', type: 3, data: names }];
  const header = Buffer.alloc(64);
  header.write('\x7fELF', 'latin1');
  header.writeUInt8(2, 4);
  header.writeUInt8(1, 5);
  const parts: Buffer[] = [header];
  let length = 64;
  const append = (part: Buffer): number => {
    const at = length;
    parts.push(part);
    length += part.length;
    return at;
  };
  const headers = [Buffer.alloc(64)];
  let nameOffset = 1;
  for (const section of all) {
    const entry = Buffer.alloc(64);
    entry.writeUInt32LE(nameOffset, 0);
    nameOffset += section.name.length + 1;
    entry.writeUInt32LE(section.type, 4);
    entry.writeBigUInt64LE(BigInt(append(section.data)), 24);
    entry.writeBigUInt64LE(BigInt(section.data.length), 32);
    entry.writeUInt32LE(('link' in section ? section.link : 0) ?? 0, 40);
    entry.writeBigUInt64LE(BigInt(('alignment' in section ? section.alignment : 1) ?? 1), 48);
    headers.push(entry);
  }
  if (interpreter !== undefined) {
    const text = Buffer.from(`${interpreter}\0`);
    const segment = Buffer.alloc(56);
    segment.writeUInt32LE(3, 0);
    segment.writeBigUInt64LE(BigInt(append(text)), 8);
    header.writeBigUInt64LE(BigInt(append(segment)), 0x20);
    header.writeUInt16LE(56, 0x36);
    header.writeUInt16LE(1, 0x38);
  }
  header.writeBigUInt64LE(BigInt(append(Buffer.concat(headers))), 0x28);
  header.writeUInt16LE(64, 0x3a);
  header.writeUInt16LE(headers.length, 0x3c);
  header.writeUInt16LE(headers.length - 1, 0x3e);
  return Buffer.concat(parts);
}

/** A program or library that is linked with `needed`. */
export function buildProgram(needed: readonly string[], interpreter?: string): Buffer {
  const strings = Buffer.from(['', ...needed, ''].join('\0'));
  const dynamic = Buffer.alloc((needed.length + 1) * 16);
  let offset = 1;
  needed.forEach((name, index) => {
    dynamic.writeBigUInt64LE(1n, index * 16);
    dynamic.writeBigUInt64LE(BigInt(offset), index * 16 + 8);
    offset += name.length + 1;
  });
  return buildElf(
    [
      { name: '.dynstr', type: 3, data: strings },
      { name: '.dynamic', type: 6, data: dynamic, link: 1 },
    ],
    interpreter,
  );
}

/** A kernel module with these `key=value` strings, and other sections beside. */
export function buildModule(info: readonly string[], more: readonly SectionToBuild[] = []): Buffer {
  const modinfo = Buffer.from(info.map((line) => `${line}\0`).join(''));
  return buildElf([{ name: '.modinfo', type: 1, data: modinfo }, ...more]);
}

/** The module as Debian signs it: signature, its description, and a mark at the end. */
export function signModule(module: Buffer): Buffer {
  const signature = Buffer.alloc(300, 0xaa);
  const description = Buffer.alloc(12);
  description.writeUInt32BE(signature.length, 8);
  return Buffer.concat([module, signature, description, Buffer.from('~Module signature appended~\n')]);
}
