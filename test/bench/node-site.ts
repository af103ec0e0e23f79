// A site for the rows of the worker node: its prologue and epilogue by hand, and jobs.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { runSheltered } from '../site/sheltered.ts';
import { QUEUE, type Site, type SiteOptions, startSite } from '../site/site.ts';
import { environment } from './measure.ts';

/** Starts a site, and stops it whatever happens. */
export async function withNodeSite<T>(
  program: string,
  options: Partial<SiteOptions>,
  work: (site: Site) => Promise<T>,
): Promise<T> {
  const site = await startSite({
    directory: `/var/tmp/vmbatch-bench-${process.pid}`,
    account: 'vmbatch-bench',
    dist: program,
    onStage: () => undefined,
    ...options,
  });
  try {
    return await work(site);
  } finally {
    await site.stop();
  }
}

let number = 9000;

/** A job that only prologue and epilogue know: what TORQUE would call them with. */
export function handMadeJob(site: Site, text = '#!/bin/sh\ntrue\n', queue = QUEUE) {
  const id = `${++number}.${site.serverName}`;
  const script = join(site.directory, `${number}.SC`);
  writeFileSync(script, text, { mode: 0o700 });
  const { name } = site.account;
  const begin = [id, name, name, 'bench'];
  return {
    id,
    script,
    prologue: [join(site.standin.momPrivDir, 'prologue'), ...begin, 'nodes=1', queue, '', script],
    epilogue: [
      join(site.standin.momPrivDir, 'epilogue'),
      ...begin,
      '0',
      'nodes=1',
      '',
      queue,
      '',
      '0',
      script,
    ],
  };
}

/** Runs a hook as the mom does; returns its seconds. */
export async function runHook(site: Site, argv: readonly string[]): Promise<number> {
  await runSheltered('chown', [site.account.name, argv.at(-1) ?? '']);
  const [file = '', ...args] = argv;
  const started = performance.now();
  const env = { ...environment(), ...site.env };
  const result = await runSheltered(file, args, { cwd: site.standin.momPrivDir, env, timeoutMs: 300_000 });
  if (result.exitCode !== 0) throw new Error(`${file}: ${result.stderr}`);
  return (performance.now() - started) / 1000;
}

export async function submitJob(site: Site, text: string, ...options: string[]): Promise<string> {
  const path = join(site.account.home, `bench-${++number}.sh`);
  writeFileSync(path, text, { mode: 0o755 });
  const words = ['-q', QUEUE, '-j', 'oe', '-o', `${path}.out`, ...options, path];
  const result = await site.asUser(join(site.standin.binDir, 'qsub'), words);
  if (result.exitCode !== 0) throw new Error(result.stderr);
  return result.stdout.trim();
}

/** Waits until jobs have ended. */
export async function untilEnded(site: Site, ids: readonly string[], limitMs: number): Promise<void> {
  for (const deadline = performance.now() + limitMs; performance.now() < deadline; await sleep(100)) {
    const { stdout } = await site.asUser(join(site.standin.binDir, 'qstat'), []);
    const ended = ids.filter((id) => new RegExp(`^${id.split('.')[0]}\\..* C `, 'm').test(stdout));
    if (ended.length === ids.length) return;
  }
  throw new Error(`jobs do not end: ${readFileSync(join(site.log, 'vmbatch.log'), 'utf8').slice(-2000)}`);
}
