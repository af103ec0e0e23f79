// What hooks get where nothing is real but the files: arguments as TORQUE gives them, programs that do
// nothing, a node that can do all that is asked of it.
import { writeFileSync } from 'node:fs';
import type { HookArguments } from '../../src/batch/torque/mom/hook-arguments.ts';
import type { NodeFacts } from '../../src/node/plan/facts.ts';
import type { Run } from '../../src/util/processes/run.ts';

/** nobody:nogroup of Debian. */
export const NOBODY = { name: 'nobody', uid: 65534, gid: 65534 };

export function hookArguments(jobId: string, script: string): HookArguments {
  return {
    jobId,
    user: NOBODY.name,
    group: 'nogroup',
    jobName: 'job',
    queue: 'vmalice',
    resources: 'nodes=1:ppn=1,walltime=01:00:00',
    script,
  };
}

/** Of programs it knows `qemu-img` alone, which leaves a file. */
const runNothing: Run = async (file, args) => {
  if (file === 'qemu-img') writeFileSync(args.at(-1) ?? '', 'an overlay');
  const ended = { exitCode: 0, signal: undefined, timedOut: false, cancelled: false, notFound: false };
  return { command: file, stdout: '', stderr: '', seconds: 0, ...ended };
};

/** What a start has besides its node file, its job and its hypervisor. */
export const USUAL_START = {
  ppn: 1,
  facts: async (): Promise<NodeFacts> => ({
    type: 'qemu',
    filters: { ipv4: true, ipv6: true },
    cpus: undefined,
    numaNodes: undefined,
  }),
  wallSeconds: 3600,
  limitMs: 60_000,
  run: runNothing,
  /** A process that has ended. */
  self: { pid: 999_999_999, startTicks: 1 },
};
