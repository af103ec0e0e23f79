// `npm run site`: a one-node site to try jobs on by hand. Runs until it is told to stop, or as long as a command.
import { spawn } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatError, toVmbatchError } from '../../src/util/errors.ts';
import { shellQuote } from '../../src/util/quote.ts';
import { QUEUE, SITE_STAGES, type Site, startSite } from './site.ts';

const HELP = `usage: npm run site [-- [--dir DIR] [COMMAND [ARGUMENT ...]]]

Starts a one-node site on this machine: a stand-in for TORQUE (for trying and testing, not a batch system), libvirt,
a shared file system, a worker node with vmbatch. With a command: runs it in the site's environment, then stops.
Without: runs until it gets SIGINT or SIGTERM.
  --dir DIR   where everything goes (default /var/tmp/vmbatch-site); removed at the end
`;

async function main(argv: string[]): Promise<number> {
  if (argv[0] === '--help') {
    process.stdout.write(HELP);
    return 0;
  }
  let directory = '/var/tmp/vmbatch-site';
  if (argv[0] === '--dir') directory = argv.splice(0, 2)[1] ?? directory;
  rmSync(directory, { recursive: true, force: true });
  const stopped = new Promise<number>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve(0));
  });
  const site = await startSite({
    directory,
    account: 'vmbatch-site',
    dist: join(import.meta.dirname, '../../dist'),
    onStage: (stage) => process.stderr.write(`vmbatch: starting ${SITE_STAGES[stage]}\n`),
  });
  try {
    const environment = join(directory, 'environment');
    writeFileSync(
      environment,
      `export PATH=${shellQuote(site.standin.binDir)}:"$PATH" VMBATCH_SITE=${shellQuote(directory)}\n`,
      { mode: 0o644 },
    );
    if (argv.length > 0) return await Promise.race([runCommand(site, argv), stopped]);
    process.stdout.write(instructions(site, environment));
    return await stopped;
  } finally {
    const left = await site.stop();
    for (const line of left) process.stderr.write(`vmbatch: had to end: ${line}\n`);
  }
}

function instructions(site: Site, environment: string): string {
  const user = site.account.name;
  return `
The site is up. Queue ${QUEUE} runs jobs in guests, queue plain on the node itself. In another terminal:

  su ${user}
  . ${environment}; cd
  printf '#!/bin/sh\\nhostname; uname -r\\n' >hello.sh
  qsub -q ${QUEUE} hello.sh
  qstat
  cat hello.sh.o*

Node file: ${site.nodeFile}   log: ${site.log}/vmbatch.log   history: ${site.state}/history.jsonl
Ctrl-C here stops and removes everything.
`;
}

function runCommand(site: Site, argv: string[]): Promise<number> {
  const [file, ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(file ?? 'true', args, {
      stdio: 'inherit',
      env: { ...site.env, VMBATCH_SITE: site.directory },
    });
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`${formatError(toVmbatchError(error))}\n`);
    process.exitCode = 1;
  },
);
