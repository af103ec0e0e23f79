// The stand-in as tests and the demo use it: one call makes a site directory, starts its daemons and returns
// the way to stop them.
import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { momPaths, sitePaths } from './common/site.ts';
import type { StandinConfigInput } from './server/config.ts';
import { type MomMode, startMom, startServer, stopDaemon, stopDaemons } from './site/daemons.ts';
import { install } from './site/install.ts';

export interface StandinOptions extends Partial<StandinConfigInput> {
  /** Site directory; made if absent. Every directory above it must be traversable for the jobs' users. */
  home: string;
  /** Text of mom_priv/prologue and epilogue of every mom (mode 0500). */
  prologue?: string | undefined;
  epilogue?: string | undefined;
  /** Lines of mom_priv/config, such as `$prologalarm 30`. */
  momConfig?: readonly string[] | undefined;
  /** Where `build.mjs` put the programs. */
  bundle?: string | undefined;
}

export interface Standin {
  home: string;
  /** To be put first on PATH; the commands in it know their home. */
  binDir: string;
  env: { PATH: string };
  serverLogDir: string;
  accountingDir: string;
  /** Of the first node. */
  momPrivDir: string;
  momConfigPath: string;
  spoolDir: string;
  killMom(signal?: NodeJS.Signals, node?: string): Promise<void>;
  startMom(mode?: MomMode, node?: string): Promise<void>;
  killServer(signal?: NodeJS.Signals): Promise<void>;
  startServer(): Promise<void>;
  /** Ends daemons and whatever their jobs still run; returns a line for each session it had to kill. */
  stop(): Promise<string[]>;
}

/** Builds nothing: `node test/standin/build.mjs` must have run. Throws an Error that says what did not
 * answer. */
export async function startStandin(options: StandinOptions): Promise<Standin> {
  const { home, prologue, epilogue, momConfig, bundle, ...rest } = options;
  const programs = bundle ?? new URL('../../build/standin/lib', import.meta.url).pathname;
  if (!existsSync(join(programs, 'torque-standin.cjs'))) {
    throw new Error(`${programs}: no stand-in here; run 'node test/standin/build.mjs' first`);
  }
  const serverName = rest.serverName ?? 'vm';
  const config: StandinConfigInput = {
    ...rest,
    serverName,
    queues: rest.queues ?? [{ name: 'vmalice', attributes: {} }],
    nodes: rest.nodes ?? [{ name: serverName, np: 4 }],
  };
  install(home, config, programs);
  const nodeNames = config.nodes.map(({ name }) => name);
  for (const [index, name] of nodeNames.entries()) {
    const mom = momPaths(home, name, index === 0);
    if (prologue !== undefined) writeHook(join(mom.momPriv, 'prologue'), prologue);
    if (epilogue !== undefined) writeHook(join(mom.momPriv, 'epilogue'), epilogue);
    if (momConfig !== undefined) writeFileSync(mom.config, momConfig.map((line) => `${line}\n`).join(''));
  }
  await startServer(home);
  await Promise.all(nodeNames.map((name) => startMom(home, name)));
  const first = nodeNames[0] ?? serverName;
  const mom = momPaths(home, first, true);
  const paths = sitePaths(home);
  const binDir = join(home, 'bin');
  return {
    home,
    binDir,
    env: { PATH: `${binDir}:${process.env['PATH'] ?? '/usr/bin:/bin'}` },
    serverLogDir: paths.serverLogs,
    accountingDir: paths.accounting,
    momPrivDir: mom.momPriv,
    momConfigPath: mom.config,
    spoolDir: mom.spool,
    killMom: (signal = 'SIGKILL', node = first) => stopDaemon(home, `mom.${node}`, signal),
    startMom: (mode = '-p', node = first) => startMom(home, node, mode),
    killServer: (signal = 'SIGTERM') => stopDaemon(home, 'server', signal),
    startServer: () => startServer(home),
    stop: () => stopDaemons(home),
  };
}

/** Replaces a hook so that a mom never sees half of it. */
export function writeHook(path: string, text: string): void {
  writeFileSync(path, text, { mode: 0o500 });
  chmodSync(path, 0o500);
}
