// The limits that the node gives a job, as the job's shell in the guest is to set them.

/** The limits that go with a job. Those on memory and CPU time do not: the guest's size and TORQUE itself see
 * to them. */
const TAKEN = [
  { line: 'Max core file size', flag: '-c', unit: 512 },
  { line: 'Max file size', flag: '-f', unit: 512 },
  { line: 'Max locked memory', flag: '-l', unit: 1024 },
  { line: 'Max open files', flag: '-n', unit: 1 },
  { line: 'Max stack size', flag: '-s', unit: 1024 },
  // Shells do not agree about its letter: the launch program finds it out.
  { line: 'Max processes', flag: '"$processes"', unit: 1 },
] as const;

/** One limit, in the units of the shell's `ulimit FLAG`. */
export interface Limit {
  flag: (typeof TAKEN)[number]['flag'];
  soft: number | 'unlimited';
  hard: number | 'unlimited';
}

/** @param text of /proc/PID/limits. What it does not say stays as the guest has it. */
export function parseLimits(text: string): Limit[] {
  return TAKEN.flatMap(({ line, flag, unit }) => {
    const found = new RegExp(`^${line} +(\\d+|unlimited) +(\\d+|unlimited)`, 'm').exec(text);
    const value = (word = '') => (word === 'unlimited' ? word : Math.ceil(Number(word) / unit));
    return found === null ? [] : [{ flag, soft: value(found[1]), hard: value(found[2]) }];
  });
}
