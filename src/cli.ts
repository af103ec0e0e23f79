// The program's door: picks a command and loads only that one. Nothing heavy may be imported here.

declare const VMBATCH_VERSION: string;

interface Command {
  load: () => Promise<{ main: (argv: string[]) => Promise<number> }>;
  /** It works with what is root's alone; where that is a matter of its arguments, whether it is with
   * these. */
  needsRoot?: true | ((argv: readonly string[]) => boolean);
  /** One line for --help. */
  about: string;
}

const COMMANDS: Readonly<Record<string, Command>> = {
  submit: {
    load: () => import('./commands/ce/submit.ts'),
    about: 'CE: turn the grami file of a grid job into a batch job',
  },
  scan: {
    load: () => import('./commands/ce/scan.ts'),
    about: 'CE: find the batch jobs that ended and tell A-REX',
  },
  cancel: {
    load: () => import('./commands/ce/cancel.ts'),
    about: 'CE: delete the batch job of a grid job',
  },
  info: {
    load: () => import('./commands/ce/info.ts'),
    about: 'CE: queue, node and job state as JSON, for VMBATCHmod.pm',
  },
  check: {
    load: () => import('./commands/check.ts'),
    needsRoot: ([what]) => what === 'node',
    about: 'CE and node: say what is wrong with the set-up (check ce, check node)',
  },
  prologue: {
    load: () => import('./commands/hooks/prologue.ts'),
    about: 'node: create the guest of a job (TORQUE calls it)',
  },
  run: {
    load: () => import('./commands/hooks/run.ts'),
    about: 'node: run the job script in the guest (the job starter calls it)',
  },
  epilogue: {
    load: () => import('./commands/hooks/epilogue.ts'),
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
    needsRoot: true,
    about: 'node: log in to the guest of a job',
  },
  console: {
    load: () => import('./commands/console.ts'),
    needsRoot: true,
    about: 'node: print what the guest of a job said on its console',
  },
  release: {
    load: () => import('./commands/release.ts'),
    needsRoot: true,
    about: 'node: remove guests that were kept of failed jobs',
  },
  reap: {
    load: () => import('./commands/reap.ts'),
    needsRoot: true,
    about: 'node: remove what jobs have left that are gone (a timer calls it, and every epilogue)',
  },
  node: {
    load: () => import('./commands/node.ts'),
    needsRoot: true,
    about: 'node: take it out of service or back, test it (node status, enable, disable, self-test, health)',
  },
  hooks: {
    load: () => import('./commands/hooks.ts'),
    needsRoot: true,
    about: 'node: put prologue, epilogue and job starter in place for the mom',
  },
  image: {
    load: () => import('./commands/image.ts'),
    needsRoot: ([what]) => what !== 'build-demo' && what !== 'verify',
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
    return 2; // USAGE_EXIT, which is not loaded for this
  }
  const command = COMMANDS[name];
  if (command === undefined) return 2;
  if (needsRoot(command, rest)) (await import('./util/program/report.ts')).requireRoot(name);
  return (await command.load()).main(rest);
}

function needsRoot({ needsRoot: needs }: Command, argv: readonly string[]): boolean {
  if (needs === undefined || process.geteuid?.() === 0) return false;
  const isHelp = argv.length === 0 || argv.some((word) => word === '--help' || word === '-h');
  return !isHelp && (needs === true || needs(argv));
}

/** Tells the reader what failed, and gives the exit code that goes with it. */
async function explain(thrown: unknown): Promise<number> {
  const [name = '', what] = process.argv.slice(2);
  const isOnCe = (COMMANDS[name]?.about ?? '').startsWith('CE:') || (name === 'check' && what === 'ce');
  try {
    return (await import('./util/program/report.ts')).explain(thrown, isOnCe ? 'site' : 'node');
  } catch {
    process.stderr.write(`vmbatch: ${thrown}\nvmbatch: what to do: copy the dist folder as a whole\n`);
    return 3;
  }
}

/** Started by A-REX or a mom: what becomes of their output is decided there, and their exit codes mean
 * something. */
const STARTED_BY_PROGRAMS = ['submit', 'scan', 'cancel', 'prologue', 'run', 'epilogue'];

/** A reader who has seen enough (`| head -1`) is no failure, and a full disk is none of ours to show a stack
 * for. */
function watchOutput(command: string | undefined): void {
  if (command !== undefined && STARTED_BY_PROGRAMS.includes(command)) return;
  for (const [name, stream] of Object.entries({ stdout: process.stdout, stderr: process.stderr }))
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(process.exitCode ?? 0);
      if (name === 'stdout')
        process.stderr.write(
          `vmbatch: node fault: ${name} cannot be written: ${error.message} [output-failed]\n`,
        );
      process.exit(3); // of a fault of the node; the table of them is not loaded for this
    });
}

watchOutput(process.argv[2]);
start(process.argv.slice(2))
  .catch(explain)
  .then((code) => {
    // Not process.exit: what was written to a pipe must still get out.
    process.exitCode = code;
  });
