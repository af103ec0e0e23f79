// The id of a job that was refused when it was submitted: A-REX has it as the batch job's, TORQUE never saw
// it.

/** TORQUE's own ids begin with a digit. */
const PREFIX = 'refused.';

/** @param gridId letters, digits, `.`, `_`, `-` */
export const refusedId = (gridId: string): string => `${PREFIX}${gridId}`;

/** Whether a job id says that there is no batch job and never was one. */
export const isRefused = (jobId: string | undefined): boolean => jobId?.startsWith(PREFIX) === true;
