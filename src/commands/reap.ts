// vmbatch reap [--dry-run] [--json]: removes what is left on this node of jobs that are gone
import { Command } from 'commander';
import { describeShare } from '../guest/share/describe.ts';
import { openShareGuard, type ShareGuard } from '../guest/share/guard.ts';
import { DEFAULT_NODE_FILE, openCountedLog, openHypervisor, settleLog } from '../node/environment.ts';
import { followUp } from '../node/guard/follow-up.ts';
import { offlineOptions } from '../node/guard/offline.ts';
import { askServerByQstat } from '../node/reap/ask-server.ts';
import { type ReapFinding, type ReapReport, reap } from '../node/reap/reap.ts';
import { leaseDirectory } from '../node/record.ts';
import { BUILT_IN_DEFAULTS } from '../node-file/config.ts';
import { loadNodeConfig, type NodeConfig } from '../node-file/read.ts';
import { FAULT_OUTCOMES, toVmbatchError } from '../util/errors.ts';
import { namesIn } from '../util/files/files.ts';
import { type Log, NO_LOG } from '../util/log.ts';
import { run as runProgram } from '../util/processes/run.ts';
import { reportError } from '../util/program/report.ts';

/** As an epilogue's. */
const VIRSH_MS = 60_000;

interface Options {
  config: string;
  state?: string;
  dryRun?: boolean;
  json?: boolean;
  quiet?: boolean;
}

export async function main(argv: string[]): Promise<number> {
  let exitCode = 0;
  const program = new Command('vmbatch reap')
    .exitOverride()
    .description(
      'removes what is left on this node of jobs that are gone: domains, disks, addresses, locks, keys. What a job that lives needs, ' +
        'and domains of others, are left alone.',
    )
    .option('--dry-run', 'say what would be removed, and remove nothing')
    .option('--json', 'print one JSON object')
    .option('--quiet', 'print only what could not be removed')
    .option('--state <DIR>', 'the state directory; otherwise the one that the node file names')
    .option('--config <FILE>', 'the node file', DEFAULT_NODE_FILE)
    .action(async (options: Options) => {
      exitCode = await run(options);
    });
  await program.parseAsync(argv, { from: 'user' });
  return exitCode;
}

async function run(options: Options): Promise<number> {
  const { config, problem } = readConfig(options.config);
  const state = options.state ?? config?.state ?? BUILT_IN_DEFAULTS.state;
  const problems = problem === undefined ? [] : [problem];
  const dryRun = options.dryRun === true;
  if (config !== undefined && !dryRun) await settleLog(config.log, state);
  const log =
    config === undefined || dryRun
      ? NO_LOG
      : await openCountedLog(config.log, { job: 'reap', state, unit: 'line' });
  const uri = config?.hypervisor.uri ?? BUILT_IN_DEFAULTS['hypervisor.uri'];
  const guard =
    config === undefined ? undefined : openShareGuard(describeShare(config.share), config.timeouts.shareMs);
  try {
    const report = await reap({
      state,
      leaseDirectories: await usableLeaseDirectories(state, config, guard, problems),
      share:
        config === undefined || guard === undefined
          ? undefined
          : { directory: config.readyDirectory, exists: (path) => guard.exists(path) },
      openHypervisor: (named) => openHypervisor(named ?? uri, config?.timeouts.virshMs ?? VIRSH_MS),
      askServer: askServerByQstat(config?.guard.pbsBinPath),
      dryRun,
      log,
    });
    report.problems.unshift(...problems);
    const followed = config === undefined || dryRun ? undefined : await lookAfterNode(config, log);
    if (followed !== undefined && options.json !== true) process.stdout.write(`${followed}\n`);
    if (options.json === true) process.stdout.write(`${JSON.stringify(report)}\n`);
    else print(report, options.quiet === true);
    const isLeft = report.findings.some(({ done }) => done === 'failed' || done === 'unknown');
    return isLeft || report.problems.length > 0 ? FAULT_OUTCOMES.node.commandExit : 0;
  } finally {
    guard?.close();
    await log.close();
  }
}

/** A node that was taken out of service. */
async function lookAfterNode(config: NodeConfig, log: Log): Promise<string | undefined> {
  const test = async () => {
    const { selfTest } = await import('../node/guard/self-test.ts');
    const hypervisor = openHypervisor(config.hypervisor.uri, config.timeouts.virshMs);
    return selfTest({ config, hypervisor, run: runProgram, log });
  };
  return followUp(offlineOptions(config, runProgram), config.guard, test, log);
}

/** What a record speaks of is removed without a node file, too. */
function readConfig(file: string): { config: NodeConfig | undefined; problem: string | undefined } {
  try {
    return { config: loadNodeConfig(file), problem: undefined };
  } catch (thrown) {
    return { config: undefined, problem: reportError(toVmbatchError(thrown, 'node')) };
  }
}

/** A directory of locks may lie on a share that hangs. */
async function usableLeaseDirectories(
  state: string,
  config: NodeConfig | undefined,
  guard: ShareGuard | undefined,
  problems: string[],
): Promise<string[]> {
  const own = leaseDirectory(state);
  const locks = config?.network.lockDirectory ?? own;
  if (guard === undefined || locks === own) return [own];
  try {
    await guard.exists(locks);
    namesIn(locks); // or it says why not, such as a handle that is stale
    return [own, locks];
  } catch (thrown) {
    problems.push(toVmbatchError(thrown, 'node').message);
    return [own];
  }
}

const DONE: Readonly<Record<ReapFinding['done'], string>> = {
  removed: 'removed',
  'would-remove': 'would be removed',
  failed: 'NOT removed',
  busy: 'left to another process that is at it',
  unknown: 'left alone',
};

function print({ findings, alive, kept, problems }: ReapReport, quiet: boolean): void {
  for (const { jobId, why, things, done, errors } of findings) {
    if (quiet && done !== 'failed' && done !== 'unknown') continue;
    const whose = jobId === undefined ? 'temporary files' : `job ${jobId}`;
    process.stdout.write(
      `${whose}: ${why}; ${DONE[done]}: ${things.join(', ') || 'nothing but its record'}\n`,
    );
    for (const error of errors) process.stdout.write(`  ${error}\n`);
  }
  for (const problem of problems) process.stderr.write(`vmbatch: ${problem}\n`);
  if (quiet) return;
  const counts = [
    `${alive.length} jobs live`,
    ...(kept.length > 0 ? [`${kept.length} guests are kept`] : []),
  ];
  process.stdout.write(`${findings.length === 0 ? 'nothing is left; ' : ''}${counts.join(', ')}\n`);
}
