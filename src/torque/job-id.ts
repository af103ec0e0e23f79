// What a batch job's id looks like: `112.server`, of an array job `113[].server` or `113[4].server`.

const JOB_ID = /^[0-9]+(\[[0-9]*\])?(\.[A-Za-z0-9-]+)*$/;

/** A host name has at most 253 characters; TORQUE's own limit is below this. */
const MAX_LENGTH = 256;

/** Whether TORQUE may have given this id. Anything else must not reach a command line: it could be an option. */
export function isJobId(text: string): boolean {
  return text.length <= MAX_LENGTH && JOB_ID.test(text);
}
