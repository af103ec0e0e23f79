// vmbatch run --state DIR --for PID SHELL: what the job starter starts, as the job's user
import { readFileSync } from 'node:fs';
import { checkJobId } from '../../batch/torque/mom/hook-arguments.ts';
import { JOB_SIGNALS } from '../../guest/session/remote-programs.ts';
import { readEnvironment, readLimits } from '../../node/life/job-surroundings.ts';
import { runJob } from '../../node/life/run.ts';
import { FAULT_OUTCOMES, toVmbatchError, VmbatchError } from '../../util/errors.ts';
import { wholeWrites } from '../../util/files/whole-writes.ts';
import { exitUnlessDecided, reportError } from '../../util/program/report.ts';

const HELP = `usage: vmbatch run --state DIR --for PID SHELL   (stdin: the path of the job script)

The mom's job starter, called by the shim that 'vmbatch hooks install' puts in place: runs the job script in the
job's guest and passes on its output and exit code. PID is the shim's process: its environment and its limits are
the job's. Exit codes of its own:
${Object.entries(FAULT_OUTCOMES)
  .map(([fault, { starterExit }]) => `  ${starterExit} ${fault} fault`)
  .join('\n')}
`;

export async function main(argv: string[]): Promise<number> {
  if (argv[0] === '--help') {
    process.stdout.write(HELP);
    return 0;
  }
  exitUnlessDecided(FAULT_OUTCOMES.bug.starterExit);
  try {
    return await start(argv);
  } catch (thrown) {
    // Another command's exit code would be the job's own to the mom.
    const error = toVmbatchError(thrown, 'node');
    process.stderr.write(`${reportError(error)}\n`);
    return FAULT_OUTCOMES[error.fault].starterExit;
  }
}

function start(argv: readonly string[]): Promise<number> {
  const [option, state, optionFor, pid, shell, ...rest] = argv;
  const isOurs = option === '--state' && optionFor === '--for' && /^[1-9]\d{0,9}$/.test(pid ?? '');
  if (!isOurs || state === undefined || shell === undefined || rest.length > 0)
    throw new VmbatchError({
      fault: 'node',
      code: 'usage',
      message: 'run: this version is not called like this',
      hint: 'is the job starter that of another version? vmbatch hooks install puts the right one in place',
    });
  const environment = readEnvironment(Number(pid));
  return runJob({
    state,
    jobId: checkJobId(environment['PBS_JOBID']),
    shell,
    line: readFileSync(0, 'latin1'),
    environment,
    limits: readLimits(Number(pid)),
    stdout: wholeWrites(1, process.stdout),
    stderr: wholeWrites(2, process.stderr),
    umask: process.umask(),
    onSignal: (listener) => {
      // Listening to USR1 also keeps Node from opening its debugger to whoever is on this node.
      for (const name of JOB_SIGNALS) process.on(`SIG${name}`, () => listener(name));
    },
  });
}
