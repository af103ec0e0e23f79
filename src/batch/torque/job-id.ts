// What a batch job's id looks like: `112.server`, of an array job `113[].server` or `113[4].server`; and
// which ids mean the same job. TORQUE shows one job with another server's name, or without any, after a
// change of `display_job_server_suffix` or `job_suffix_alias`, and a wrapper around its commands may do the
// same.

/** A server's name is a host's, maybe with an underscore, a port, an address in brackets or another server
 * behind an @. Signs that part words or paths, that a shell acts upon, or that list things are never in
 * it. */
const JOB_ID = /^[0-9]{1,15}(\[[0-9]{0,10}\])?(\.[\w:@+~[\]-]+)*$/;

/** A host name has at most 253 characters; TORQUE's own limit is below this. */
const MAX_LENGTH = 256;

/** Whether TORQUE may have given this id. Anything else must not reach a command line: it could be an
 * option. */
export function isJobId(text: string): boolean {
  return text.length <= MAX_LENGTH && JOB_ID.test(text);
}

/** `112` or `113[4]`. */
function numberOf(id: string): string {
  const dot = id.indexOf('.');
  return dot < 0 ? id : id.slice(0, dot);
}

/** The first part of the server's name; empty if there is none. */
function labelOf(id: string): string {
  return /^[^.]*\.([^.:@]*)/.exec(id)?.[1]?.toLowerCase() ?? '';
}

/** Whether two ids may mean the same job: the number, and the first part of the server's name if both have
 * one. */
export function mayBeSameJob(one: string, other: string): boolean {
  if (numberOf(one) !== numberOf(other)) return false;
  const [label, otherLabel] = [labelOf(one), labelOf(other)];
  return label === otherLabel || label === '' || otherLabel === '';
}

const NONE: readonly string[] = [];

/** Ids that may have to be found again by another spelling. */
export class JobIds {
  /** Nearly always there is one id of a number. */
  readonly #byNumber = new Map<string, string | string[]>();

  constructor(ids: Iterable<string> = []) {
    for (const id of ids) this.add(id);
  }

  /** @param id one that is not among them */
  add(id: string): void {
    const number = numberOf(id);
    const known = this.#byNumber.get(number);
    this.#byNumber.set(number, known === undefined ? id : [known, id].flat());
  }

  delete(id: string): void {
    const number = numberOf(id);
    const left = [this.#byNumber.get(number) ?? []].flat().filter((other) => other !== id);
    const [first, ...others] = left;
    if (first === undefined) this.#byNumber.delete(number);
    else this.#byNumber.set(number, others.length === 0 ? first : left);
  }

  /** The ids that may mean the same job as `id` does; more than one if it cannot be told. */
  like(id: string): readonly string[] {
    const known = this.#byNumber.get(numberOf(id));
    if (known === undefined) return NONE;
    return [known].flat().filter((other) => mayBeSameJob(other, id));
  }
}
