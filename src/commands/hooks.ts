// vmbatch hooks install|uninstall: prologue, epilogue and job starter for a mom
import { resolve } from 'node:path';
import { Command } from 'commander';
import { readMomConfig } from '../batch/torque/mom/mom-config.ts';
import { FILTER6 } from '../guest/network/plan.ts';
import { DEFAULT_NODE_FILE } from '../node/environment.ts';
import { installHooks, uninstallHooks } from '../node/hooks/install.ts';
import { DEFAULT_JOB_STARTER } from '../node/installed.ts';
import { findMom } from '../node/mom.ts';
import {
  missingLines,
  planLines,
  removeMomLines,
  type WantedLines,
  wantedAlarm,
  writeMomLines,
} from '../node/mom-lines.ts';
import { loadNodeConfig, type NodeConfig } from '../node-file/read.ts';
import { toVmbatchError } from '../util/errors.ts';
import { describeRun, run } from '../util/processes/run.ts';
import { resourcePath } from '../util/program/resources.ts';

interface Options {
  config: string;
  momDir?: string;
  jobStarter?: string;
  writeConfig?: boolean;
}

const RESTART = 'then restart pbs_mom with -p: running jobs stay';

export async function main(argv: string[]): Promise<number> {
  const program = new Command('vmbatch hooks')
    .exitOverride()
    .description('the hooks of the mom on this node');
  program
    .command('install')
    .description('put prologue, epilogue and job starter in place, with the paths of this installation')
    .option('--config <FILE>', 'the node file', DEFAULT_NODE_FILE)
    .option('--mom-dir <DIR>', "the mom's mom_priv (default: that of the mom that runs here)")
    .option('--job-starter <FILE>', 'where the job starter goes', DEFAULT_JOB_STARTER)
    .option('--write-config', "write what is missing into the mom's config too; the site's own lines stay")
    .action(install);
  program
    .command('uninstall')
    .description("take the hooks away again, and our lines out of the mom's config")
    .option('--mom-dir <DIR>', "the mom's mom_priv (default: that of the mom that runs here)")
    .option('--job-starter <FILE>', 'where the job starter is (default: where it was put)')
    .action(uninstall);
  await program.parseAsync(argv, { from: 'user' });
  return 0;
}

async function install(options: Options): Promise<void> {
  const configFile = resolve(options.config);
  const jobStarter = resolve(options.jobStarter ?? DEFAULT_JOB_STARTER);
  const mom = findMom(options.momDir);
  const config = loadNodeConfig(configFile);
  const wanted = { jobStarter, alarm: wantedAlarm(config.timeouts.readyMs) };
  // Before anything is written: a site's own job starter is a question for people.
  if (options.writeConfig === true) planLines(mom.config, wanted);
  const written = installHooks({
    config,
    configFile,
    momDirectory: mom.directory,
    jobStarter,
    node: process.execPath,
    vmbatch: process.argv[1] ?? 'vmbatch',
  });
  await defineFilter(config);
  say(written.map((path) => `wrote ${path}`));
  say(options.writeConfig === true ? putLines(mom.config, wanted) : tellLines(mom.config, wanted));
  say([`'vmbatch check node' says whether a guest could be started here`]);
}

function putLines(file: string, wanted: WantedLines): string[] {
  const lines = writeMomLines(file, wanted);
  if (lines.length === 0) return [`${file} has what is needed`];
  return [`${file} has these lines now; ${RESTART}:`, ...lines.map((line) => `  ${line}`)];
}

/** What an admin still has to write. */
function tellLines(file: string, wanted: WantedLines): string[] {
  try {
    const lines = missingLines(readMomConfig(file), wanted);
    if (lines.length === 0) return [`${file} has what is needed`];
    return [
      `these lines belong into ${file} (vmbatch hooks install --write-config puts them there); ${RESTART}:`,
      ...lines.map((line) => `  ${line}`),
    ];
  } catch (thrown) {
    const { message, hint } = toVmbatchError(thrown, 'node');
    return [message, ...(hint === undefined ? [] : [hint])];
  }
}

function uninstall(options: Options): void {
  const mom = findMom(options.momDir);
  const jobStarter = options.jobStarter === undefined ? undefined : resolve(options.jobStarter);
  const removed = uninstallHooks({ momDirectory: mom.directory, jobStarter });
  say(removed.length === 0 ? ['there are no hooks of vmbatch'] : removed.map((path) => `removed ${path}`));
  if (removeMomLines(mom.config)) say([`took our lines out of ${mom.config}; ${RESTART}`]);
}

function say(lines: readonly string[]): void {
  process.stdout.write(lines.map((line) => `${line}\n`).join(''));
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
