// The program's door: picks a command and loads only that one. Nothing heavy may be imported here.
import { FAULT_OUTCOMES, toVmbatchError } from './util/errors.ts';

declare const VMBATCH_VERSION: string;

interface Command {
  load: () => Promise<{ main: (argv: string[]) => Promise<number> }>;
  /** One line for --help. */
  about: string;
}

const COMMANDS: Readonly<Record<string, Command>> = {
  submit: {
    load: () => import('./commands/submit.ts'),
    about: 'CE: turn the grami file of a grid job into a batch job',
  },
  scan: {
    load: () => import('./commands/scan.ts'),
    about: 'CE: find the batch jobs that ended and tell A-REX',
  },
  cancel: {
    load: () => import('./commands/cancel.ts'),
    about: 'CE: delete the batch job of a grid job',
  },
  info: {
    load: () => import('./commands/info.ts'),
    about: 'CE: queue, node and job state as JSON, for VMBATCHmod.pm',
  },
  check: {
    load: () => import('./commands/check.ts'),
    about: 'CE and node: say what is wrong with the set-up (check ce, check node)',
  },
  prologue: {
    load: () => import('./commands/prologue.ts'),
    about: 'node: create the guest of a job (TORQUE calls it)',
  },
  run: {
    load: () => import('./commands/run.ts'),
    about: 'node: run the job script in the guest (the job starter calls it)',
  },
  epilogue: {
    load: () => import('./commands/epilogue.ts'),
    about: 'node: destroy the guest of a job and all that was made for it (TORQUE calls it)',
  },
  context: {
    load: () => import('./commands/context.ts'),
    about: 'node: show or write the context disk that a batch script would get (context build)',
  },
  domain: {
    load: () => import('./commands/domain.ts'),
    about: 'node: show the libvirt domain that a batch script would get (domain show)',
  },
  ssh: {
    load: () => import('./commands/ssh.ts'),
    about: 'node: log in to the guest of a job',
  },
  console: {
    load: () => import('./commands/console.ts'),
    about: 'node: print what the guest of a job said on its console',
  },
  release: {
    load: () => import('./commands/release.ts'),
    about: 'node: remove guests that were kept of failed jobs',
  },
  reap: {
    load: () => import('./commands/reap.ts'),
    about: 'node: remove what jobs have left that are gone (a timer calls it, and every epilogue)',
  },
  node: {
    load: () => import('./commands/node.ts'),
    about: 'node: take it out of service or back, test it (node status, enable, disable, self-test, health)',
  },
  hooks: {
    load: () => import('./commands/hooks.ts'),
    about: 'node: put prologue, epilogue and job starter in place for the mom',
  },
  image: {
    load: () => import('./commands/image.ts'),
    about: 'node: the catalogue of template images (list, add, verify, prepare, remove, build-demo)',
  },
};

const HELP = `vmbatch ${VMBATCH_VERSION}: each grid job in a virtual machine of its own, on a TORQUE cluster

usage: vmbatch COMMAND [ARGUMENT ...]
       vmbatch --version | --help

commands:
${Object.entries(COMMANDS)
  .map(([name, command]) => `  ${name.padEnd(9)} ${command.about}`)
  .join('\n')}

'vmbatch COMMAND --help' says more.
`;

async function start(argv: string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === '--version') {
    process.stdout.write(`vmbatch ${VMBATCH_VERSION}\n`);
    return 0;
  }
  if (name === '--help' || name === 'help') {
    process.stdout.write(HELP);
    return 0;
  }
  if (name === undefined || !Object.hasOwn(COMMANDS, name)) {
    process.stderr.write(`vmbatch: no such command: ${name ?? '(none given)'}\n\n${HELP}`);
    return 2;
  }
  const command = COMMANDS[name];
  if (command === undefined) return 2;
  return (await command.load()).main(rest);
}

/** Tells the reader what failed, and gives the exit code that goes with it. */
async function explain(thrown: unknown): Promise<number> {
  const error = toVmbatchError(thrown);
  const { reportError } = await import('./util/report.ts');
  process.stderr.write(`${reportError(error)}\n`);
  return FAULT_OUTCOMES[error.fault].commandExit;
}

start(process.argv.slice(2))
  .catch(explain)
  .then((code) => {
    // Not process.exit: what was written to a pipe must still get out.
    process.exitCode = code;
  });
