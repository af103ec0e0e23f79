// The <Job> elements of `qstat -x`, handed over while the answer comes in, without decoding what nobody asks
// for.
import { DataElements } from './data-elements.ts';
import { ElementFields } from './element-fields.ts';

/** One `<Job>` of `qstat -x`, of which only the two values are decoded that say whether there is more to
 * know. The same object stands for one job after the other. */
export interface RawJobElement {
  /** `112.vm`; empty if the element has none. */
  readonly id: string;
  /** `Q`, `R`, `C`, ...; empty if the element has none. */
  readonly state: string;
  /** One value without decoding the others: ten times as quick as decoding all where only a few are needed.
   * The bytes are only there during the call that hands the element over.
   * @param within the element that the value is in, such as `Resource_List`; default: the job
   * @returns undefined if it is absent or empty */
  text(name: string, within?: string): string | undefined;
}

const LESS_THAN = 0x3c;
/** The opening tag of the job itself. */
const JOB = '<Job>';
/** Opening tags without their bracket. */
const ID = Buffer.from('Job_Id>');
const STATE = Buffer.from('job_state>');

/** Takes the bytes of one answer as they come. */
export class JobElements {
  readonly #elements: DataElements;

  constructor(onElement: (element: RawJobElement) => void) {
    const element = new RawElement();
    this.#elements = new DataElements({
      command: 'qstat -x',
      tag: 'Job',
      onElement: (bytes, from, end) => {
        element.moveTo(bytes, from, end);
        onElement(element);
      },
    });
  }

  /** @throws VmbatchError `site` for what cannot be such an answer; what `onElement` throws */
  add(chunk: Uint8Array): void {
    this.#elements.add(chunk);
  }

  /** To be called after the last byte. No byte at all is how TORQUE says that there are no jobs.
   * @throws VmbatchError `site` for an answer that was cut short */
  end(): void {
    this.#elements.end();
  }
}

class RawElement implements RawJobElement {
  id = '';
  state = '';
  readonly #fields = new ElementFields();

  moveTo(bytes: Buffer, from: number, end: number): void {
    this.id = leaf(bytes, ID, from, end);
    this.state = leaf(bytes, STATE, from, end);
    this.#fields.moveTo(bytes, from, end);
  }

  text(name: string, within?: string): string | undefined {
    return this.#fields.text(name, within);
  }
}

/** Text between an opening tag, given without its first bracket, and the next bracket. TORQUE writes no `<`
 * into values. */
function leaf(bytes: Buffer, tag: Buffer, from: number, end: number): string {
  // The id comes first.
  let at = bytes.indexOf(tag, from + JOB.length + 1);
  while (at >= 0 && at < end && bytes[at - 1] !== LESS_THAN) at = bytes.indexOf(tag, at + 1);
  if (at < 0 || at >= end) return '';
  const begin = at + tag.length;
  // A state is one letter; the calls to find its end and to decode it would cost more than everything else
  // here.
  if (bytes[begin + 1] === LESS_THAN) return String.fromCharCode(bytes[begin] ?? 0);
  return bytes.toString('latin1', begin, bytes.indexOf(LESS_THAN, begin));
}
