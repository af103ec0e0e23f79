// Single values of a <Job> or a <Node>, found by one walk over its tags: for who needs a few of them from
// each of thousands. Whatever else is in the element may have any name and any value: it is never looked at.
import { decodeText } from './xml.ts';

/** A name that somebody asked for: a value, or an element with values of its own. */
interface Field {
  name: Uint8Array;
  /** The element that it is in; undefined: the job. */
  parent: Field | undefined;
  /** Which walk saw it last, and where its value was. */
  walk: number;
  begin: number;
  end: number;
  /** Jobs that follow each other often say the same: no new text is made then. Undefined unless its bytes are
   * its characters. */
  last: string | undefined;
}

const LESS_THAN = 0x3c;
const GREATER_THAN = 0x3e;
const SLASH = 0x2f;
const BUCKETS = 256;

/** Learns which values are asked for, and notes where they are in each job: looking for one after the other
 * would read the job again for each. An element whose tags do not fit together is searched for each value
 * instead. */
export class ElementFields {
  readonly #fields = new Map<string, Field>();
  readonly #within = new Map<string, Map<string, Field>>();
  /** All fields, by the first and the last letter and the length of their names. */
  readonly #buckets: Field[][] = Array.from({ length: BUCKETS }, () => []);
  #bytes: Buffer = Buffer.alloc(0);
  #from = 0;
  #end = 0;
  #walk = 0;
  #walked = false;
  /** Its tags do not fit together: what the walk found may be in the wrong place. */
  #crooked = false;

  /** Where the element is: its opening tag begins at `from`, and `end` is behind its last bracket. */
  moveTo(bytes: Buffer, from: number, end: number): void {
    this.#bytes = bytes;
    this.#from = from;
    this.#end = end;
    this.#walked = false;
  }

  /** A value of the job, or of an element directly below it; the first if there are several.
   * @returns undefined if it is absent or empty */
  text(name: string, within?: string): string | undefined {
    const field = this.#field(name, within);
    if (!this.#walked) this.#walkTags();
    if (this.#crooked) return this.#search(name, within);
    if (field.walk !== this.#walk || field.begin === field.end) return undefined;
    return this.#decode(field);
  }

  #field(name: string, within: string | undefined): Field {
    const siblings = within === undefined ? this.#fields : this.#within.get(within);
    return siblings?.get(name) ?? this.#learn(name, within);
  }

  #learn(name: string, within: string | undefined): Field {
    const parent = within === undefined ? undefined : this.#field(within, undefined);
    const bytes = Buffer.from(name);
    const field = { name: bytes, parent, walk: 0, begin: 0, end: 0, last: undefined };
    const siblings = within === undefined ? this.#fields : (this.#within.get(within) ?? new Map());
    if (within !== undefined) this.#within.set(within, siblings);
    siblings.set(name, field);
    this.#buckets[bucketOf(bytes, 0, bytes.length)]?.push(field);
    this.#walked = false; // the walk did not look for it
    return field;
  }

  #walkTags(): void {
    const bytes = this.#bytes;
    const end = this.#end;
    const walk = ++this.#walk;
    let depth = 0;
    let parent: Field | undefined;
    let at = nextOf(bytes, LESS_THAN, this.#from + 1, end);
    while (at < end) {
      if (bytes[at + 1] === SLASH) {
        depth--;
        at = nextOf(bytes, LESS_THAN, at + 1, end);
        continue;
      }
      const nameEnd = nextOf(bytes, GREATER_THAN, at + 1, end);
      const next = nextOf(bytes, LESS_THAN, nameEnd, end);
      const isLeaf = bytes[next + 1] === SLASH;
      const wanted = depth === 0 || (depth === 1 && parent !== undefined);
      const field = wanted ? this.#find(at + 1, nameEnd, depth === 0 ? undefined : parent) : undefined;
      if (field !== undefined && field.walk !== walk) {
        field.walk = walk;
        field.begin = nameEnd + 1;
        field.end = isLeaf ? next : nameEnd + 1;
      }
      if (isLeaf) {
        // What follows its end, which is as long as its beginning and a slash.
        at = nextOf(bytes, LESS_THAN, next + nameEnd - at + 1, end);
      } else {
        if (depth === 0) parent = field;
        depth++;
        at = next;
      }
    }
    this.#walked = true;
    this.#crooked = depth !== -1;
  }

  /** The first element of this name, behind the first tag `within`. */
  #search(name: string, within: string | undefined): string | undefined {
    const element = this.#bytes.subarray(this.#from, this.#end);
    const from = within === undefined ? 0 : element.indexOf(`<${within}>`);
    const begin = from < 0 ? -1 : element.indexOf(`<${name}>`, from);
    const end = begin < 0 ? -1 : element.indexOf(`</${name}>`, begin);
    const text = end < 0 ? '' : element.toString('utf8', begin + name.length + 2, end);
    return text === '' ? undefined : decodeText(text);
  }

  #find(begin: number, end: number, parent: Field | undefined): Field | undefined {
    const bucket = this.#buckets[bucketOf(this.#bytes, begin, end)];
    if (bucket === undefined) return undefined;
    for (const field of bucket)
      if (field.parent === parent && isAt(this.#bytes, begin, end, field.name)) return field;
    return undefined;
  }

  #decode(field: Field): string {
    const { begin, end, last } = field;
    if (last !== undefined && last.length === end - begin && isTextAt(this.#bytes, begin, last)) return last;
    const raw = this.#bytes.toString('utf8', begin, end);
    const text = decodeText(raw);
    field.last = text.length === end - begin ? text : undefined;
    return text;
  }
}

function bucketOf(bytes: Uint8Array, begin: number, end: number): number {
  return ((bytes[begin] ?? 0) * 7 + (bytes[end - 1] ?? 0) * 31 + end - begin) % BUCKETS;
}

/** Where a byte is next, or `end`. */
function nextOf(bytes: Uint8Array, byte: number, from: number, end: number): number {
  let at = from;
  while (at < end && bytes[at] !== byte) at++;
  return at;
}

function isAt(bytes: Uint8Array, begin: number, end: number, name: Uint8Array): boolean {
  if (end - begin !== name.length) return false;
  for (let index = 0; index < name.length; index++) if (bytes[begin + index] !== name[index]) return false;
  return true;
}

function isTextAt(bytes: Uint8Array, begin: number, text: string): boolean {
  for (let index = 0; index < text.length; index++)
    if (bytes[begin + index] !== text.charCodeAt(index)) return false;
  return true;
}
