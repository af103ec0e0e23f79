// Cutting the answer of `qstat -x` into its <Job> elements while it comes in, without decoding what nobody asks for.
import { VmbatchError } from '../util/errors.ts';
import { JobFields } from './job-fields.ts';
import { parseElement, refuseDocument, type XmlElement } from './xml.ts';

/** One `<Job>` of `qstat -x`, of which only the two values are decoded that say whether there is more to know. The same
 * object stands for one job after the other. */
export interface RawJobElement {
  /** `112.vm`; empty if the element has none. */
  readonly id: string;
  /** `Q`, `R`, `C`, ...; empty if the element has none. */
  readonly state: string;
  /** One value without decoding the others: ten times as quick as `parse` where only a few are needed. The bytes are
   * only there during the call that hands the element over.
   * @param within the element that the value is in, such as `Resource_List`; default: the job
   * @returns undefined if it is absent or empty */
  text(name: string, within?: string): string | undefined;
  /** The whole element; only during that call, too.
   * @throws VmbatchError `site` if it is not well-formed */
  parse(): XmlElement;
}

/** A job's element has some kilobytes; one with thousands of nodes some hundred. */
const MAX_ELEMENT_BYTES = 16 * 1024 * 1024;

/** Before `<Data>` comes a declaration at most. */
const MAX_PROLOG_BYTES = 1024;

const DATA = Buffer.from('<Data>');
const DATA_END = Buffer.from('</Data>');
const JOB = Buffer.from('<Job>');
const JOB_END = Buffer.from('</Job>');
const LESS_THAN = 0x3c;
const SLASH = 0x2f;
const JOB_TAIL = Buffer.from('Job>');
/** Opening tags without their bracket. */
const ID = Buffer.from('Job_Id>');
const STATE = Buffer.from('job_state>');

/** Room for a chunk of a pipe and the beginning of an element before it. */
const FIRST_ROOM = 256 * 1024;

/** Takes the bytes of one document as they come. Holds no more than one element and one chunk. */
export class JobElements {
  readonly #onElement: (element: RawJobElement) => void;
  readonly #element = new RawElement();
  #place: 'before' | 'inside' | 'after' = 'before';
  /** One piece of memory for all chunks: they come by the hundred, and new memory for each is what takes most time. */
  #room: Buffer = Buffer.allocUnsafeSlow(FIRST_ROOM);
  /** What was not used up yet: a part of `#room`. */
  #rest: Buffer = this.#room.subarray(0, 0);
  /** Up to where `#rest` is known not to end an element. */
  #searched = 0;

  constructor(onElement: (element: RawJobElement) => void) {
    this.#onElement = onElement;
  }

  /** @throws VmbatchError `site` for what cannot be such a document; what `onElement` throws */
  add(chunk: Uint8Array): void {
    this.#append(chunk);
    if (this.#place === 'before') this.#begin();
    if (this.#place === 'inside') this.#takeElements();
    if (this.#place === 'after' && isBlank(this.#rest)) this.#rest = this.#room.subarray(0, 0);
    else if (this.#place === 'after') throw refuseDocument('qstat -x', this.#rest.toString('utf8', 0, 200));
    if (this.#rest.length > MAX_ELEMENT_BYTES)
      throw new VmbatchError({
        fault: 'site',
        code: 'torque-answer',
        message: `qstat -x: one job has more than ${MAX_ELEMENT_BYTES} bytes`,
      });
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

  /** To be called after the last byte. No byte at all is how TORQUE says that there are no jobs.
   * @throws VmbatchError `site` for a document that was cut short */
  end(): void {
    const nothing = this.#place === 'before' && isBlank(this.#rest);
    if (nothing || this.#place === 'after') return;
    throw refuseDocument('qstat -x', this.#rest.toString('utf8', 0, 200), 'it ends before its end');
  }

  #begin(): void {
    const at = this.#rest.indexOf(DATA);
    if (at < 0 && this.#rest.length < MAX_PROLOG_BYTES) return; // more may come
    const before = this.#rest.toString('latin1', 0, at < 0 ? MAX_PROLOG_BYTES : at);
    if (at < 0 || !/^\s*(<\?xml[^<>]*\?>\s*)?$/.test(before)) throw refuseDocument('qstat -x', before);
    this.#place = 'inside';
    this.#rest = this.#rest.subarray(at + DATA.length);
  }

  #takeElements(): void {
    let from = 0;
    for (;;) {
      from = skipBlanks(this.#rest, from);
      if (startsWith(this.#rest, JOB, from)) {
        const end = indexOfJobEnd(this.#rest, Math.max(from, this.#searched));
        if (end < 0) break;
        this.#searched = 0;
        this.#handOver(from, end + JOB_END.length);
        from = end + JOB_END.length;
      } else if (startsWith(this.#rest, DATA_END, from)) {
        this.#place = 'after';
        from += DATA_END.length;
        break;
      } else if (this.#rest.length - from >= DATA_END.length) {
        throw refuseDocument('qstat -x', this.#rest.toString('utf8', from, from + 200));
      } else break;
    }
    this.#rest = this.#rest.subarray(from);
    this.#searched = Math.max(0, this.#rest.length - JOB_END.length);
  }

  #handOver(from: number, end: number): void {
    this.#element.moveTo(this.#rest, from, end);
    this.#onElement(this.#element);
  }
}

/** Where `</Job>` is, or -1. Its brackets are everywhere in the text, its J is not: a search that begins with that is several
 * times as quick. */
function indexOfJobEnd(bytes: Buffer, from: number): number {
  let at = bytes.indexOf(JOB_TAIL, from + 2);
  while (at >= 0 && (bytes[at - 1] !== SLASH || bytes[at - 2] !== LESS_THAN))
    at = bytes.indexOf(JOB_TAIL, at + 1);
  return at < 0 ? -1 : at - 2;
}

class RawElement implements RawJobElement {
  id = '';
  state = '';
  #bytes: Buffer = Buffer.alloc(0);
  #from = 0;
  #end = 0;
  readonly #fields = new JobFields();

  moveTo(bytes: Buffer, from: number, end: number): void {
    this.id = leaf(bytes, ID, from, end);
    this.state = leaf(bytes, STATE, from, end);
    this.#bytes = bytes;
    this.#from = from;
    this.#end = end;
    this.#fields.moveTo(bytes, from, end);
  }

  text(name: string, within?: string): string | undefined {
    return this.#fields.text(name, within);
  }

  parse(): XmlElement {
    return parseElement(this.#bytes.toString('utf8', this.#from, this.#end), 'qstat -x');
  }
}

/** Text between an opening tag, given without its first bracket, and the next bracket. `<` is always escaped in values. */
function leaf(bytes: Buffer, tag: Buffer, from: number, end: number): string {
  // The id comes first.
  const at = bytes.indexOf(tag, from + JOB.length + 1);
  if (at < 0 || at >= end || bytes[at - 1] !== LESS_THAN) return '';
  const begin = at + tag.length;
  // A state is one letter; the calls to find its end and to decode it would cost more than everything else here.
  if (bytes[begin + 1] === LESS_THAN) return String.fromCharCode(bytes[begin] ?? 0);
  return bytes.toString('latin1', begin, bytes.indexOf(LESS_THAN, begin));
}

function startsWith(bytes: Buffer, start: Buffer, from: number): boolean {
  let index = 0;
  while (index < start.length && bytes[from + index] === start[index]) index++;
  return index === start.length;
}

function skipBlanks(bytes: Buffer, from: number): number {
  let at = from;
  for (
    let byte = bytes[at];
    byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
    byte = bytes[at]
  )
    at++;
  return at;
}

const isBlank = (bytes: Buffer) => skipBlanks(bytes, 0) === bytes.length;
