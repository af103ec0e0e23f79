// vmbatch run --state DIR SHELL: what the job starter becomes, as the job's user
import { readFileSync } from 'node:fs';
import { JOB_SIGNALS } from '../guest/remote-programs.ts';
import { readEnvironment, runJob } from '../node/run-job.ts';
import { checkJobId } from '../torque/hook-arguments.ts';
import { FAULT_OUTCOMES, VmbatchError } from '../util/errors.ts';
import { exitUnlessDecided } from '../util/report.ts';

const HELP = `usage: vmbatch run --state DIR SHELL   (environment: the job's; stdin: the path of the job script)

The mom's job starter, called by the shim that 'vmbatch hooks install' puts in place: runs the job script in the
job's guest and passes on its output and exit code. Exit codes of its own:
${Object.entries(FAULT_OUTCOMES)
  .map(([fault, { starterExit }]) => `  ${starterExit} ${fault} fault`)
  .join('\n')}
`;

export async function main(argv: string[]): Promise<number> {
  const [option, state, shell, ...rest] = argv;
  if (option === '--help') {
    process.stdout.write(HELP);
    return 0;
  }
  if (option !== '--state' || state === undefined || shell === undefined || rest.length > 0)
    throw new VmbatchError({ fault: 'node', code: 'usage', message: 'run: see vmbatch run --help' });
  exitUnlessDecided(FAULT_OUTCOMES.bug.starterExit);
  const result = await runJob({
    state,
    jobId: checkJobId(process.env['PBS_JOBID']),
    shell,
    line: readFileSync(0, 'latin1'),
    environment: readEnvironment(),
    stdout: process.stdout,
    stderr: process.stderr,
    umask: process.umask(),
    onSignal: (listener) => {
      // Listening to USR1 also keeps Node from opening its debugger to whoever is on this node.
      for (const name of JOB_SIGNALS) process.on(`SIG${name}`, () => listener(name));
    },
  });
  if (result.diedOf !== undefined) {
    process.removeAllListeners(result.diedOf);
    process.kill(process.pid, result.diedOf);
  }
  return result.exitCode;
}
