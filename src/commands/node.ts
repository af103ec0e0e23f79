// vmbatch node status|enable|disable|self-test|health: the node's place in TORQUE
import { Command, Option } from 'commander';
import { DEFAULT_NODE_FILE, openHypervisor, openNodeLog } from '../node/environment.ts';
import { bringBack, offlineOptions, takeOffline } from '../node/guard/offline.ts';
import { type GuardState, readGuard } from '../node/guard/state.ts';
import { loadNodeConfig } from '../node-file/read.ts';
import { FAULT_OUTCOMES } from '../util/errors.ts';
import { run } from '../util/processes/run.ts';

interface Options {
  config: string;
  json?: boolean;
  reason?: string;
  image?: string;
  force?: boolean;
}

export async function main(argv: string[]): Promise<number> {
  let exitCode = 0;
  const program = new Command('vmbatch node')
    .exitOverride()
    .description(
      'whether this node is in service; the guard takes it out of it after faults in a row (guard.faults)',
    );
  const config = () => new Option('--config <FILE>', 'the node file').default(DEFAULT_NODE_FILE);

  program
    .command('status')
    .description('faults in a row, and whether the node was taken offline')
    .addOption(config())
    .option('--json', 'as JSON')
    .action((options: Options) => {
      const guard = readGuard(loadNodeConfig(options.config).state);
      process.stdout.write(options.json === true ? `${JSON.stringify(guard)}\n` : describe(guard));
    });

  program
    .command('enable')
    .description('bring the node back into service, and forget its faults')
    .addOption(config())
    .action(async (options: Options) => {
      const problem = await bringBack(offlineOptions(loadNodeConfig(options.config), run));
      exitCode = tell(problem, 'the node is back in service');
    });

  program
    .command('disable')
    .description('take the node out of service; jobs that run here go on')
    .addOption(config())
    .option('--reason <TEXT>', 'what TORQUE shows as the note of the node', 'taken offline by hand')
    .action(async ({ config: file, reason = '' }: Options) => {
      const { mark, problem } = await takeOffline(offlineOptions(loadNodeConfig(file), run), reason, 'admin');
      exitCode = tell(mark === 'set' ? undefined : problem, 'the node is offline');
    });

  program
    .command('self-test')
    .description('start a guest, run a script in it, remove it')
    .addOption(config())
    .option('--image <NAME>', "another image than the node's default")
    .action(async (options: Options) => {
      const node = loadNodeConfig(options.config);
      const log = await openNodeLog(node.log, 'self-test');
      try {
        const { selfTest } = await import('../node/guard/self-test.ts');
        const hypervisor = openHypervisor(node.hypervisor.uri, node.timeouts.virshMs);
        const seconds = await selfTest({ config: node, image: options.image, hypervisor, run, log });
        process.stdout.write(`a guest started and ran a script in ${seconds} s\n`);
      } finally {
        await log.close();
      }
    });

  program
    .command('adopt')
    .description("make the state directory this machine's, if it was another's: see state-of-another-node")
    .addOption(config())
    .option('--force', 'also with jobs in it: what is left of them here is removed')
    .action(async (options: Options) => {
      exitCode = await adopt(loadNodeConfig(options.config).state, options.force === true);
    });

  program
    .command('health')
    .description(
      "for the mom's $node_check_script: one line that begins with ERROR while the node should be offline",
    )
    .addOption(config())
    .action((options: Options) => {
      const { offline } = readGuard(loadNodeConfig(options.config).state);
      if (offline !== undefined && offline.mark !== 'clearing')
        process.stdout.write(`ERROR vmbatch: ${offline.reason}\n`);
    });

  await program.parseAsync(argv, { from: 'user' });
  return exitCode;
}

/** Hands the directory over. Jobs of the other machine would be removed here as dead: that is said first. */
async function adopt(state: string, force: boolean): Promise<number> {
  const { adoptState, foreignOwner } = await import('../node/owner/state-owner.ts');
  const { jobIds } = await import('../node/record.ts');
  const foreign = foreignOwner(state);
  const jobs = jobIds(state);
  if (foreign !== undefined && jobs.length > 0 && !force) {
    process.stderr.write(
      `vmbatch: ${foreign.message}\n  jobs in it: ${jobs.join(', ')}\n` +
        '  let them end there first; if that machine is gone, or is this one: vmbatch node adopt --force\n',
    );
    return FAULT_OUTCOMES.node.commandExit;
  }
  const before = adoptState(state);
  process.stdout.write(
    before === undefined
      ? `${state} is this machine's\n`
      : `${state} is this machine's now, and was that of ${before}\n`,
  );
  return 0;
}

function tell(problem: string | undefined, done: string): number {
  if (problem === undefined) {
    process.stdout.write(`${done}\n`);
    return 0;
  }
  process.stderr.write(
    `vmbatch: TORQUE was not told: ${problem}\n  is pbsnodes here (guard.pbs_bin_path), and may root of this node change nodes?\n`,
  );
  return FAULT_OUTCOMES.node.commandExit;
}

function describe({ faults, offline, selfTest }: GuardState): string {
  const time = (at: number) => new Date(at).toISOString();
  const lines = [
    offline === undefined
      ? 'in service'
      : `offline since ${time(offline.since)} (${offline.by}, ${offline.mark}): ${offline.reason}`,
    ...(offline?.problem === undefined ? [] : [`  TORQUE did not let us: ${offline.problem}`]),
    ...(selfTest === undefined ? [] : [`last self-test ${time(selfTest.at)}: ${selfTest.problem}`]),
    `${faults.length} faults in a row`,
    ...faults.map(({ at, jobId, code, message }) => `  ${time(at)} ${jobId} ${code}: ${message}`),
  ];
  return `${lines.join('\n')}\n`;
}
