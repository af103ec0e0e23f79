// Cutting the XML of `qstat -x` and `pbsnodes -x` into its elements while it comes in, without decoding any
// of them.
import { VmbatchError } from '../../../util/errors.ts';
import { isBlank, skipBlanks, startsWith } from './bytes.ts';
import { refuseDocument } from './xml.ts';

/** Which elements are wanted, and who takes them. */
export interface DataReader {
  /** For messages: `qstat -x`. */
  command: string;
  /** `Job`, `Node`. */
  tag: string;
  /** Told where an element begins, with its opening tag, and where its closing tag ends. The bytes are only
   * there during the call. */
  onElement: (bytes: Buffer, from: number, end: number) => void;
}

/** A job's element has some kilobytes; one with thousands of nodes some hundred. */
const MAX_ELEMENT_BYTES = 16 * 1024 * 1024;

/** What may stand before a document: its declaration, and the warnings of a command or of whatever is around
 * it. */
const MAX_TEXT_BYTES = 64 * 1024;

/** More than any name of an element has. */
const MAX_NAME_BYTES = 1024;

const DATA = Buffer.from('<Data>');
const DATA_END = Buffer.from('</Data>');
const LESS_THAN = 0x3c;
const SLASH = 0x2f;

/** Room for a chunk of a pipe and the beginning of an element before it. */
const FIRST_ROOM = 256 * 1024;

/** Takes the bytes of an answer as they come. Holds no more than one element and one chunk.
 *
 * An answer is one document or several, one after the other: TORQUE writes one for each id that it is asked
 * for. Text without markup may stand around documents. Within `<Data>`, elements of other names are passed
 * over; text there is refused, since nobody can say what is missing in its place. */
export class DataElements {
  readonly #reader: DataReader;
  readonly #begin: Buffer;
  readonly #end: Buffer;
  readonly #tail: Buffer;
  #place: 'outside' | 'inside' = 'outside';
  #documents = 0;
  /** One piece of memory for all chunks: they come by the hundred, and new memory for each is what takes most
   * time. */
  #room: Buffer = Buffer.allocUnsafeSlow(FIRST_ROOM);
  /** What was not used up yet: a part of `#room`. */
  #rest: Buffer = this.#room.subarray(0, 0);
  /** Up to where `#rest` is known not to end an element. */
  #searched = 0;

  constructor(reader: DataReader) {
    this.#reader = reader;
    this.#begin = Buffer.from(`<${reader.tag}>`);
    this.#end = Buffer.from(`</${reader.tag}>`);
    this.#tail = Buffer.from(`${reader.tag}>`);
  }

  /** @throws VmbatchError `site` for what cannot be such an answer; what `onElement` throws */
  add(chunk: Uint8Array): void {
    this.#append(chunk);
    do {
      if (this.#place === 'outside') this.#findData();
      if (this.#place === 'inside') this.#takeElements();
    } while (this.#place === 'outside' && this.#rest.indexOf(DATA) >= 0);
    if (this.#rest.length > MAX_ELEMENT_BYTES)
      throw new VmbatchError({
        fault: 'site',
        code: 'torque-answer',
        message: `${this.#reader.command}: one ${this.#reader.tag.toLowerCase()} has more than ${MAX_ELEMENT_BYTES} bytes`,
      });
  }

  /** To be called after the last byte. No byte at all is how TORQUE says that there is nothing.
   * @throws VmbatchError `site` for an answer that was cut short */
  end(): void {
    if (this.#place === 'outside') {
      if (isBlank(this.#rest)) return;
      // Words behind a complete document take nothing away from it.
      if (this.#documents > 0 && this.#rest.indexOf(LESS_THAN) < 0) return;
    }
    throw this.#refuse(this.#rest, this.#place === 'inside' ? 'it ends before its end' : undefined);
  }

  /** Puts a chunk behind what is left, which moves to the front of the room. */
  #append(chunk: Uint8Array): void {
    const kept = this.#rest.length;
    const length = kept + chunk.length;
    const room = length > this.#room.length ? Buffer.allocUnsafeSlow(2 * length) : this.#room;
    room.set(this.#rest);
    room.set(chunk, kept);
    this.#room = room;
    this.#rest = room.subarray(0, length);
  }

  #findData(): void {
    const at = this.#rest.indexOf(DATA);
    if (at < 0 && this.#rest.length < MAX_TEXT_BYTES) return; // more may come
    const before = at < 0 ? this.#rest : this.#rest.subarray(0, at);
    const text = before.toString('latin1').replace(/<\?xml[^<>]*\?>/, '');
    if (at < 0 || text.includes('<')) throw this.#refuse(before);
    this.#place = 'inside';
    this.#documents++;
    this.#rest = this.#rest.subarray(at + DATA.length);
  }

  #takeElements(): void {
    let from = 0;
    for (;;) {
      from = skipBlanks(this.#rest, from);
      if (startsWith(this.#rest, this.#begin, from)) {
        const end = this.#indexOfEnd(Math.max(from, this.#searched));
        if (end < 0) break;
        this.#searched = 0;
        this.#reader.onElement(this.#rest, from, end + this.#end.length);
        from = end + this.#end.length;
      } else if (startsWith(this.#rest, DATA_END, from)) {
        this.#place = 'outside';
        from += DATA_END.length;
        break;
      } else if (this.#rest.length - from < Math.max(DATA_END.length, this.#begin.length)) {
        break; // more may come
      } else {
        const end = this.#endOfOther(from);
        if (end === undefined) break;
        from = end;
      }
    }
    this.#rest = this.#rest.subarray(from);
    this.#searched = this.#place === 'inside' ? Math.max(0, this.#rest.length - this.#end.length) : 0;
  }

  /** Where the wanted element's closing tag is, or -1. Its brackets are everywhere in the text, the first
   * letter of its name is not: a search that begins with that is several times as quick. */
  #indexOfEnd(from: number): number {
    const bytes = this.#rest;
    let at = bytes.indexOf(this.#tail, from + 2);
    while (at >= 0 && (bytes[at - 1] !== SLASH || bytes[at - 2] !== LESS_THAN))
      at = bytes.indexOf(this.#tail, at + 1);
    return at < 0 ? -1 : at - 2;
  }

  /** Where an element ends that nobody asked for; undefined if more of it has to come.
   * @throws VmbatchError `site` if there is none */
  #endOfOther(from: number): number | undefined {
    const text = this.#rest.toString('latin1', from, from + MAX_NAME_BYTES);
    const name = /^<([^<>\s/]+)(?:\s[^<>]*)?>/.exec(text)?.[1];
    if (name === undefined || name === this.#reader.tag || name === 'Data') {
      if (/^<[^<>]*$/.test(text) && text.length < MAX_NAME_BYTES) return undefined;
      throw this.#refuse(this.#rest.subarray(from));
    }
    const close = `</${name}>`;
    const end = this.#rest.indexOf(close, from, 'latin1');
    return end < 0 ? undefined : end + close.length;
  }

  #refuse(found: Buffer, detail?: string): VmbatchError {
    return refuseDocument(this.#reader.command, found.toString('utf8', 0, 200), detail);
  }
}
