// Rock Ridge: exact names, modes and owners, in the system use fields of the primary directory records.
import { putBoth32, putText, SECTOR, shortTime } from './fields.ts';
import type { TreeNode } from './tree.ts';

/** Which record of a directory the entries are for. */
export type RecordRole = 'root-self' | 'self' | 'parent' | 'child';

const MODE_DIRECTORY = 0o040700;
const MODE_REGULAR = 0o100000;
/** The longest directory record is 255 bytes, and its length must be even. */
const MAX_RECORD = 254;
const CONTINUATION_ENTRY = 28;
/** What an NM entry has before the name. */
const NAME_HEAD = 5;
const NOTHING = new Uint8Array(0);
/** The three texts that the Rock Ridge specification (version 1.10) prescribes for the ER entry. */
const EXTENSION = [
  'RRIP_1991A',
  'THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS',
  'PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION.',
] as const;

/** Where the records of one directory continue: directly behind it. libarchive reads an image from its
 * beginning to its end, and takes what a record leads to only there. */
export class ContinuationArea {
  /** `reference`: a system use field that ends with the CE entry for these bytes. */
  readonly #parts: { offset: number; bytes: Uint8Array; reference: Uint8Array }[] = [];
  #end = 0;

  get sectors(): number {
    return Math.ceil(this.#end / SECTOR);
  }

  /** The fields and after them CE, which leads to the bytes. Its sector is known later. */
  add(fields: readonly Uint8Array[], bytes: Uint8Array): Uint8Array {
    // Linux reads one sector of a continuation: none may cross a boundary.
    const left = SECTOR - (this.#end % SECTOR);
    if (bytes.length > left) this.#end += left;
    const offset = this.#end;
    this.#end += bytes.length;
    const body = Buffer.alloc(CONTINUATION_ENTRY - 4);
    putBoth32(body, 8, offset % SECTOR);
    putBoth32(body, 16, bytes.length);
    const reference = Buffer.concat([...fields, entry('CE', body)]);
    this.#parts.push({ offset, bytes, reference });
    return reference;
  }

  /** Tells the records where the area begins. */
  place(firstSector: number): void {
    for (const { offset, reference } of this.#parts)
      putBoth32(
        reference,
        reference.length - CONTINUATION_ENTRY + 4,
        firstSector + Math.floor(offset / SECTOR),
      );
  }

  write(image: Uint8Array, firstSector: number): void {
    for (const { offset, bytes } of this.#parts) image.set(bytes, firstSector * SECTOR + offset);
  }
}

/** Makes the system use field of each record. */
export class RockRidge {
  readonly #times: Buffer;
  /** Mode and times for each mode and number of links: few differ. */
  readonly #posix = new Map<number, Buffer>();

  constructor(modified: Date) {
    const time = shortTime(modified);
    // Modification, access and attribute change; there is no creation time on Linux to fill in.
    this.#times = entry('TF', Buffer.concat([Buffer.from([0x0e]), time, time, time]));
  }

  /** The system use field for one record whose other fields take `fixedLength` bytes; what does not fit goes
   * into `area`. */
  systemUse(role: RecordRole, node: TreeNode, fixedLength: number, area: ContinuationArea): Uint8Array {
    const posix = this.#posixAndTimes(node);
    if (role === 'child') {
      const name = Buffer.byteLength(node.name);
      const fits = fixedLength + posix.length + NAME_HEAD + name <= MAX_RECORD;
      if (fits) return withName(posix, node.name, name);
      return area.add([posix], withName(NOTHING, node.name, name));
    }
    if (role !== 'root-self') return posix;
    // SP says that system use fields are ours, and must be the very first one; ER says which protocol.
    const indicator = entry('SP', Buffer.from([0xbe, 0xef, 0]));
    return area.add([indicator, posix], extensionEntry());
  }

  /** PX (mode, links, owner and group, both root) and TF. */
  #posixAndTimes(node: TreeNode): Buffer {
    let links = 1;
    if (node.kind === 'directory') {
      links = 2;
      for (const child of node.children) if (child.kind === 'directory') links++;
    }
    const mode = node.kind === 'directory' ? MODE_DIRECTORY : MODE_REGULAR | node.mode;
    const key = links * 0x1_0000 + mode;
    const known = this.#posix.get(key);
    if (known !== undefined) return known;
    const body = Buffer.alloc(32);
    putBoth32(body, 0, mode);
    putBoth32(body, 8, links);
    const made = Buffer.concat([entry('PX', body), this.#times]);
    this.#posix.set(key, made);
    return made;
  }
}

/** The fields and after them NM, the exact name, which takes so many bytes. */
function withName(fields: Uint8Array, name: string, nameBytes: number): Uint8Array {
  const bytes = new Uint8Array(fields.length + NAME_HEAD + nameBytes);
  bytes.set(fields);
  let at = fields.length;
  bytes[at++] = 0x4e;
  bytes[at++] = 0x4d;
  bytes[at++] = NAME_HEAD + nameBytes;
  bytes[at++] = 1;
  at++; // no flags: the name is complete
  putText(bytes, at, name, nameBytes);
  return bytes;
}

function entry(signature: string, body: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(signature, 'latin1'), Buffer.from([body.length + 4, 1]), body]);
}

function extensionEntry(): Buffer {
  const [identifier, descriptor, source] = EXTENSION;
  const lengths = [identifier.length, descriptor.length, source.length, 1];
  return entry('ER', Buffer.concat([Buffer.from(lengths), Buffer.from(EXTENSION.join(''), 'latin1')]));
}
