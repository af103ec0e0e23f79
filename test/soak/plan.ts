// Which jobs a soak runs and what goes wrong with them: all of it follows from the seed.

/** What goes wrong with a job; `nothing` with most. */
export const FAULTS = [
  'crash',
  'starter-killed',
  'prologue-killed',
  'epilogue-killed',
  'guest-killed',
  'guest-hangs',
  'qdel',
  'disk-full',
] as const;
export type Fault = (typeof FAULTS)[number];

export interface PlannedJob {
  number: number;
  /** Of its script. */
  exitCode: number;
  fault: Fault | undefined;
  /** The code that lrms_done must have. */
  expected: number;
}

/** Faults that meet a job while its script runs, and for which it waits. */
export const WHILE_RUNNING: readonly Fault[] = ['starter-killed', 'guest-killed', 'guest-hangs', 'qdel'];

const SHARE = 0.05;

/** `count` jobs; with at least one of each fault when there are enough jobs. */
export function planJobs(count: number, seed: number): PlannedJob[] {
  const random = generator(seed);
  const jobs = Array.from({ length: count }, (_, number): PlannedJob => {
    const exitCode = random() < 0.8 ? 0 : Math.floor(random() * 100);
    const fault = random() < SHARE ? FAULTS[Math.floor(random() * FAULTS.length)] : undefined;
    return { number, exitCode, fault, expected: expectedCode(exitCode, fault) };
  });
  if (count < 20 * FAULTS.length) return jobs;
  const healthy = jobs.filter((job) => job.fault === undefined).sort(() => random() - 0.5);
  for (const fault of FAULTS) {
    if (jobs.some((other) => other.fault === fault)) continue;
    const job = healthy.pop();
    if (job !== undefined) Object.assign(job, { fault, expected: expectedCode(job.exitCode, fault) });
  }
  return jobs;
}

function expectedCode(exitCode: number, fault: Fault | undefined): number {
  switch (fault) {
    case 'crash':
      return 128 + 11; // of SIGSEGV, as shells have it
    case 'starter-killed':
      return 256 + 9; // TORQUE's, of SIGKILL
    case 'qdel':
      return 256 + 15;
    case 'prologue-killed':
    case 'guest-killed':
    case 'guest-hangs':
      return 251; // the node's fault
    default:
      return exitCode;
  }
}

/** Numbers from 0 to 1 that follow from the seed: mulberry32, public domain. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
