// `npm run site`: a one-node site to try jobs on by hand. Runs until it is told to stop, or as long as a
// command.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { join } from 'node:path';
import { shellQuote } from '../../src/util/quote.ts';
import { asAccount } from './account.ts';
import { writePublic } from './configuration.ts';
import type { GuestNetworkKind } from './network.ts';
import { reportStop, runProgram, UsageError } from './program.ts';
import { signalGroup } from './sheltered.ts';
import { QUEUE, SITE_STAGES, type Site, type SiteOptions, startSite } from './site.ts';

const HELP = `usage: npm run site [-- [--dir DIR] [--guests KIND] [--network KIND] [--nodes N]
                        [[--user] COMMAND [ARGUMENT ...]]]

Starts a one-node site on this machine: a stand-in for TORQUE (for trying and testing, not a batch system), libvirt,
a shared file system, a worker node with vmbatch. With a command: runs it in the site's environment, then stops.
Without: runs until it gets SIGINT (Ctrl-C) or SIGTERM.
  --dir DIR   where everything goes (default /var/tmp/vmbatch-site); must be empty or not exist, removed at the end
  --guests KIND  demo: the demo guest (default); fake: processes in namespaces instead, ready in a fraction of a second;
              both: fake ones, and the demo guest for jobs that ask for the image demo
  --network KIND  static: a bridge with a pool of addresses; dhcp: a network of libvirt's; both in a network namespace.
              Default: QEMU's user network. Not with fake guests
  --nodes N   worker nodes, all on this machine (default 1)
  --user      run the command as the site's account, in its home, and not as root: TORQUE takes no jobs of root
`;

/** What a command gets to end by itself. */
const COMMAND_GRACE_MS = 3_000;

type Guests = NonNullable<SiteOptions['guests']>;
const GUESTS: readonly Guests[] = ['demo', 'fake', 'both'];
const GUESTS_ARE: Readonly<Record<Guests, string>> = {
  demo: 'guests',
  fake: 'fake guests (processes in namespaces)',
  both: 'fake guests (processes in namespaces), those for the image demo in real ones',
};

function parse(argv: readonly string[]): {
  help: boolean;
  directory: string;
  guests: Guests;
  network: GuestNetworkKind | undefined;
  nodes: number;
  user: boolean;
  command: string[];
} {
  let directory = '/var/tmp/vmbatch-site';
  let guests: Guests = 'demo';
  let network: GuestNetworkKind | undefined;
  let nodes = 1;
  let user = false;
  const rest = [...argv];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--help') return { help: true, directory, guests, network, nodes, user, command: [] };
    if (word === '--') break;
    if (word === '--dir' || word.startsWith('--dir=')) {
      const value = word === '--dir' ? rest.shift() : word.slice('--dir='.length);
      if (value === undefined || value === '') throw new UsageError('--dir needs a directory after it');
      directory = value;
    } else if (word === '--guests' || word.startsWith('--guests=')) {
      const value = word === '--guests' ? rest.shift() : word.slice('--guests='.length);
      const kind = GUESTS.find((name) => name === value);
      if (kind === undefined) throw new UsageError(`--guests needs one of ${GUESTS.join(', ')} after it`);
      guests = kind;
    } else if (word === '--network' || word.startsWith('--network=')) {
      const value = word === '--network' ? rest.shift() : word.slice('--network='.length);
      if (value !== 'static' && value !== 'dhcp')
        throw new UsageError('--network needs static or dhcp after it');
      network = value;
    } else if (word === '--nodes' || word.startsWith('--nodes=')) {
      nodes = Number(word === '--nodes' ? rest.shift() : word.slice('--nodes='.length));
      if (!Number.isInteger(nodes) || nodes < 1 || nodes > 16)
        throw new UsageError('--nodes needs 1 to 16 after it');
    } else if (word === '--user') user = true;
    else if (word.startsWith('-')) throw new UsageError(`unknown option ${word}`);
    else {
      rest.unshift(word); // from here on it is the command's
      break;
    }
  }
  if (network !== undefined && guests !== 'demo')
    throw new UsageError('--network is for the demo guest only');
  if (user && rest.length === 0) throw new UsageError('--user needs a command after it');
  return { help: false, directory, guests, network, nodes, user, command: rest };
}

async function main(argv: string[], signal: AbortSignal): Promise<number> {
  const { help, directory, guests, network, nodes, user, command } = parse(argv);
  if (help) {
    process.stdout.write(HELP);
    return 0;
  }
  const site = await startSite({
    directory,
    account: 'vmbatch-site',
    guests,
    nodes,
    ...(network === undefined ? {} : { network }),
    dist: join(import.meta.dirname, '../../dist'),
    onStage: (stage) => process.stderr.write(`vmbatch: starting ${SITE_STAGES[stage]}\n`),
    onFailure: (lines) => reportStop(lines, signal),
    signal,
  });
  try {
    const environment = join(site.directory, 'environment');
    const path = `${shellQuote(site.standin.binDir)}:"$PATH"`;
    writePublic(environment, `export PATH=${path} VMBATCH_SITE=${shellQuote(site.directory)}\n`);
    if (command.length > 0) return await runCommand(site, command, user, signal);
    process.stdout.write(instructions(site, environment, guests));
    return await new Promise<never>((_, reject) => {
      // The timer keeps the process: signals alone do not.
      setInterval(() => undefined, 3_600_000);
      if (signal.aborted) reject(signal.reason);
      else signal.addEventListener('abort', () => reject(signal.reason));
    });
  } finally {
    reportStop(await site.stop(), signal);
  }
}

function instructions(site: Site, environment: string, guests: Guests): string {
  const user = site.account.name;
  return `
The site is up. Queue ${QUEUE} runs jobs in ${GUESTS_ARE[guests]}, queue plain on the node itself. In another terminal:

  su ${user}
  . ${environment}; cd
  printf '#!/bin/sh\\nhostname; uname -r\\n' >hello.sh
  qsub -q ${QUEUE} hello.sh
  qstat
  cat hello.sh.o*

Node file: ${site.nodeFile}
Log:       ${site.log}/vmbatch.log
History:   ${site.state}/history.jsonl
Ctrl-C here stops and removes everything.
`;
}

/** Runs the command on this terminal; returns its exit code as a shell does. */
function runCommand(site: Site, command: string[], asUser: boolean, signal: AbortSignal): Promise<number> {
  const { name, home } = site.account;
  const [file = '', ...args] = asUser ? ['setpriv', ...asAccount(site.account), '--', ...command] : command;
  const account = asUser ? { HOME: home, LOGNAME: name, USER: name, SHELL: '/bin/sh' } : {};
  // On a terminal it must stay in our process group, to be allowed to read from it.
  const onTerminal = process.stdin.isTTY === true;
  return new Promise((resolve) => {
    const child = spawn(file, args, {
      stdio: 'inherit',
      detached: !onTerminal,
      env: { ...site.env, ...account, VMBATCH_SITE: site.directory },
      ...(asUser ? { cwd: home } : {}),
    });
    const send = (name: NodeJS.Signals) => (onTerminal ? child.kill(name) : signalGroup(child.pid, name));
    let killer: NodeJS.Timeout | undefined;
    const end = () => {
      send('SIGTERM');
      killer = setTimeout(() => send('SIGKILL'), COMMAND_GRACE_MS);
    };
    if (signal.aborted) end();
    else signal.addEventListener('abort', end);
    child.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'ENOENT' ? 'there is no such program' : error.message;
      process.stderr.write(`vmbatch: ${file} cannot be started: ${why}\n`);
      resolve(error.code === 'ENOENT' ? 127 : 126);
    });
    child.once('exit', (code, name) => {
      clearTimeout(killer);
      resolve(code ?? 128 + (name === null ? 0 : constants.signals[name]));
    });
  });
}

runProgram(main, HELP);
