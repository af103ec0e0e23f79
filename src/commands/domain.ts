// vmbatch domain show: the libvirt domain that a batch script would get on this node
import { Command } from 'commander';
import { previewGuest } from '../node/check/preview.ts';
import { DEFAULT_NODE_FILE } from '../node/environment.ts';

interface Options {
  script: string;
  config: string;
  queue?: string;
  user?: string;
  jobId: string;
}

export async function main(argv: string[]): Promise<number> {
  const program = new Command('vmbatch domain')
    .exitOverride()
    .description("the libvirt domain of a job's guest");
  program
    .command('show')
    .description('print the domain XML that a batch script would get on this node, without starting anything')
    .requiredOption('--script <FILE>', 'the batch script, with its #PBS and #VMBATCH lines')
    .option('--config <FILE>', 'the node file', DEFAULT_NODE_FILE)
    .option('--queue <NAME>', "the job's queue; default: what the script says, else the node's first")
    .option('--user <NAME>', "the job's user; default: the script's owner")
    .option('--job-id <ID>', 'the id that the job would have', '1.example')
    .action(async (options: Options) => {
      const { domainXml } = await previewGuest({
        script: options.script,
        configFile: options.config,
        queue: options.queue,
        user: options.user,
        jobId: options.jobId,
        keys: false,
        say: (line) => process.stderr.write(`vmbatch: ${line}\n`),
      });
      process.stdout.write(domainXml);
    });
  await program.parseAsync(argv, { from: 'user' });
  return 0;
}
