// vmbatch release JOBID...|--expired|--all: removes guests that were kept of failed jobs
import { Command } from 'commander';
import { findJob } from '../node/debug/job.ts';
import { DEFAULT_NODE_FILE, openHypervisor, openNodeLog, stateOf } from '../node/environment.ts';
import { releaseKept } from '../node/life/kept.ts';
import { FAULT_OUTCOMES } from '../util/errors.ts';
import { NO_LOG } from '../util/log.ts';

/** As an epilogue's. */
const VIRSH_MS = 60_000;

interface Options {
  config: string;
  state?: string;
  log?: string;
  expired?: boolean;
  all?: boolean;
}

export async function main(argv: string[]): Promise<number> {
  let exitCode = 0;
  const program = new Command('vmbatch release')
    .exitOverride()
    .description('removes guests that were kept of failed jobs (debug.keep_on_failure)')
    .argument('[JOBID...]', 'whole ids, or numbers')
    .option('--expired', 'all whose time is over')
    .option('--all', 'all that are kept on this node')
    .option('--state <DIR>', 'the state directory; otherwise the one that the node file names')
    .option('--log <DIR>', 'where to log to')
    .option('--config <FILE>', 'the node file', DEFAULT_NODE_FILE)
    .action(async (given: string[], options: Options) => {
      const state = options.state ?? stateOf(options.config);
      const chosen = new Set(given.map((id) => findJob(state, id)));
      const log = options.log === undefined ? NO_LOG : await openNodeLog(options.log, 'release');
      const now = Date.now();
      const { released, left } = await releaseKept(
        state,
        ({ jobId, until }) =>
          options.all === true || chosen.has(jobId) || (options.expired === true && until <= now),
        (uri) => openHypervisor(uri, VIRSH_MS),
        log,
      );
      await log.close();
      for (const jobId of released) process.stdout.write(`released the guest of ${jobId}\n`);
      for (const jobId of chosen)
        if (!released.includes(jobId) && left.length === 0)
          process.stdout.write(`nothing of ${jobId} is kept\n`);
      for (const line of left) process.stderr.write(`vmbatch: left over: ${line}\n`);
      if (left.length > 0) exitCode = FAULT_OUTCOMES.node.commandExit;
    });
  await program.parseAsync(argv, { from: 'user' });
  return exitCode;
}
