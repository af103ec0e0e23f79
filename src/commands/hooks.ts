// vmbatch hooks install: prologue, epilogue and job starter for a mom
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { loadNodeConfig, type NodeConfig } from '../config/node.ts';
import { FILTER6 } from '../guest/network/plan.ts';
import { DEFAULT_MOM_DIRECTORY, DEFAULT_NODE_FILE } from '../node/environment.ts';
import { installHooks } from '../node/hooks.ts';
import { resourcePath } from '../util/resources.ts';
import { describeRun, run } from '../util/run.ts';

export async function main(argv: string[]): Promise<number> {
  const program = new Command('vmbatch hooks').description('the hooks of the mom on this node');
  program
    .command('install')
    .description('put prologue, epilogue and job starter in place, with the paths of this installation')
    .option('--config <FILE>', 'the node file', DEFAULT_NODE_FILE)
    .option('--mom-dir <DIR>', "the mom's mom_priv", DEFAULT_MOM_DIRECTORY)
    .option('--job-starter <FILE>', 'where the job starter goes', '/usr/local/libexec/vmbatch-job-starter')
    .action(async (options: { config: string; momDir: string; jobStarter: string }) => {
      const configFile = resolve(options.config);
      const jobStarter = resolve(options.jobStarter);
      const config = loadNodeConfig(configFile);
      const written = installHooks({
        config,
        configFile,
        momDirectory: resolve(options.momDir),
        jobStarter,
        node: process.execPath,
        vmbatch: process.argv[1] ?? 'vmbatch',
      });
      await defineFilter(config);
      process.stdout.write(
        `${written.map((path) => `wrote ${path}\n`).join('')}` +
          `these lines belong into ${join(resolve(options.momDir), 'config')}; then restart pbs_mom with -p:\n` +
          `  $job_starter ${jobStarter}\n  $prologalarm 300\n` +
          `'vmbatch check node' says whether a guest could be started here\n`,
      );
    });
  await program.parseAsync(argv, { from: 'user' });
  return 0;
}

/** Our network filter, for guests with an IPv6 address. Without it such guests have none: said, not fatal. */
async function defineFilter({ network, hypervisor }: NodeConfig): Promise<void> {
  const wanted = network.static?.pool.some(({ address6 }) => address6 !== undefined) ?? false;
  if (!wanted || network.filter !== 'auto') return;
  const file = resourcePath(`share/libvirt/${FILTER6}.xml`);
  const words = ['-q', '-c', hypervisor.uri, 'nwfilter-define', file];
  const result = await run('virsh', words, { timeoutMs: 30_000 });
  if (result.exitCode === 0) return;
  process.stderr.write(
    `vmbatch: the network filter ${FILTER6} could not be defined, guests with IPv6 run without one: ${describeRun(result)}\n`,
  );
}
