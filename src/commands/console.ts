// vmbatch console JOBID [--follow]: what the guest of a job said on its console
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { followConsole } from '../node/console/follow.ts';
import { keptConsolePath } from '../node/console/saved.ts';
import { findJob } from '../node/debug/job.ts';
import { DEFAULT_NODE_FILE, stateOf } from '../node/environment.ts';
import { jobPaths } from '../node/record.ts';
import { VmbatchError } from '../util/errors.ts';

export async function main(argv: string[]): Promise<number> {
  const program = new Command('vmbatch console')
    .exitOverride()
    .description(
      'prints the console of the guest of a job of this node, also of a failed job whose guest is gone',
    )
    .argument('<JOBID>', 'the whole id, or its number')
    .option('--follow', 'go on until the guest is gone')
    .option('--config <FILE>', 'the node file', DEFAULT_NODE_FILE)
    .action(async (given: string, options: { config: string; follow?: boolean }) => {
      const state = stateOf(options.config);
      const jobId = findJob(state, given);
      const live = jobPaths(state, jobId).console;
      const path = existsSync(live) ? live : keptConsolePath(state, jobId);
      if (!existsSync(path))
        throw new VmbatchError({
          fault: 'job',
          code: 'console-absent',
          message: `job ${jobId} has no console: its guest was not started yet`,
          jobId,
        });
      await followConsole({
        path,
        write: (text) => process.stdout.write(text),
        goOn: () => options.follow === true && path === live && existsSync(live),
        pause: () => sleep(200),
      });
    });
  await program.parseAsync(argv, { from: 'user' });
  return 0;
}
