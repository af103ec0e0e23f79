// Rock Ridge: exact names, modes and owners, in the system use fields of the primary directory records.
import { putBoth32, SECTOR, shortTime } from './fields.ts';
import type { TreeNode } from './tree.ts';

/** Which record of a directory the entries are for. */
export type RecordRole = 'root-self' | 'self' | 'parent' | 'child';

const MODE_DIRECTORY = 0o040700;
const MODE_REGULAR = 0o100000;
/** The longest directory record is 255 bytes, and its length must be even. */
const MAX_RECORD = 254;
const CONTINUATION_ENTRY = 28;
/** The three texts that the Rock Ridge specification (version 1.10) prescribes for the ER entry. */
const EXTENSION = [
  'RRIP_1991A',
  'THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS',
  'PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION.',
] as const;

/** Makes the system use field of each record, and collects in the continuation area what does not fit. */
export class RockRidge {
  readonly #firstSector: number;
  readonly #times: Buffer;
  readonly #continuation: { offset: number; bytes: Buffer }[] = [];
  #continuationEnd = 0;

  /** `firstSector`: where the continuation area will be. */
  constructor(firstSector: number, modified: Date) {
    this.#firstSector = firstSector;
    const time = shortTime(modified);
    // Modification, access and attribute change; there is no creation time on Linux to fill in.
    this.#times = entry('TF', Buffer.concat([Buffer.from([0x0e]), time, time, time]));
  }

  /** The system use field for one record whose other fields take `fixedLength` bytes. */
  systemUse(role: RecordRole, node: TreeNode, fixedLength: number): Buffer {
    const fields = [posixEntry(node), this.#times];
    if (role === 'root-self') {
      // SP says that system use fields are ours, and must be the very first one; ER says which protocol.
      fields.unshift(entry('SP', Buffer.from([0xbe, 0xef, 0])));
      fields.push(this.#continued(extensionEntry()));
    }
    if (role === 'child') {
      const name = entry('NM', Buffer.concat([Buffer.from([0]), Buffer.from(node.name)]));
      const length = fields.reduce((sum, field) => sum + field.length, fixedLength);
      fields.push(length + name.length <= MAX_RECORD ? name : this.#continued(name));
    }
    return Buffer.concat(fields);
  }

  /** Everything that records continue in, padded to whole sectors. */
  continuationArea(): Buffer {
    const area = Buffer.alloc(Math.ceil(this.#continuationEnd / SECTOR) * SECTOR);
    for (const { offset, bytes } of this.#continuation) bytes.copy(area, offset);
    return area;
  }

  #continued(bytes: Buffer): Buffer {
    // Linux reads one sector of a continuation: none may cross a boundary.
    const left = SECTOR - (this.#continuationEnd % SECTOR);
    if (bytes.length > left) this.#continuationEnd += left;
    const offset = this.#continuationEnd;
    this.#continuation.push({ offset, bytes });
    this.#continuationEnd += bytes.length;
    const body = Buffer.alloc(CONTINUATION_ENTRY - 4);
    putBoth32(body, 0, this.#firstSector + Math.floor(offset / SECTOR));
    putBoth32(body, 8, offset % SECTOR);
    putBoth32(body, 16, bytes.length);
    return entry('CE', body);
  }
}

function entry(signature: string, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from(signature, 'latin1'), Buffer.from([body.length + 4, 1]), body]);
}

/** PX: mode, links, owner and group, both root. */
function posixEntry(node: TreeNode): Buffer {
  const body = Buffer.alloc(32);
  putBoth32(body, 0, node.kind === 'directory' ? MODE_DIRECTORY : MODE_REGULAR | node.mode);
  const links =
    node.kind === 'file'
      ? 1
      : node.children.reduce((sum, child) => sum + (child.kind === 'directory' ? 1 : 0), 2);
  putBoth32(body, 8, links);
  return entry('PX', body);
}

function extensionEntry(): Buffer {
  const [identifier, descriptor, source] = EXTENSION;
  const lengths = [identifier.length, descriptor.length, source.length, 1];
  return entry('ER', Buffer.concat([Buffer.from(lengths), Buffer.from(EXTENSION.join(''), 'latin1')]));
}
