// TORQUE's error numbers with the texts that its clients print; a client's exit code is the number mod 256.

const FAULTS = {
  none: [0, ''],
  unknownJob: [15001, 'Unknown Job Id Error'],
  unauthorized: [15007, 'Unauthorized Request '],
  badValue: [15016, 'Illegal attribute or resource value for'],
  badState: [15018, 'Request invalid for state of job'],
  unknownQueue: [15020, 'Unknown queue'],
  queueDisabled: [15023, 'Queue is not enabled'],
  unknownResource: [15037, 'Unknown resource type '],
  exceedsLimit: [15038, 'Job exceeds queue resource limits'],
  // Not recorded: the number by its place in TORQUE's list.
  badGroup: [15047, 'Bad GID for job execution'],
  queueFull: [15048, 'Maximum number of jobs already in queue'],
  unknownNode: [15062, 'Unknown node'],
  badRequest: [15029, 'Unknown/illegal request'],
  noMom: [15072, 'Server could not connect to MOM'],
  userQueueFull: [15076, 'Maximum number of jobs already in queue for user'],
  syntax: [15131, 'Command syntax invalid'],
} as const;

export type FaultName = keyof typeof FAULTS;

/** A refusal by the server. `detail` is what follows the standing text (` MSG=...` or a resource's name). */
export class BatchFault extends Error {
  readonly code: number;

  constructor(name: FaultName, detail = '') {
    super(FAULTS[name][1] + (detail === '' ? '' : ` ${detail}`));
    this.name = 'BatchFault';
    this.code = FAULTS[name][0];
  }
}

/** The exit code a client ends with for an error number. */
export function exitCodeOf(code: number): number {
  return code % 256;
}
