// Putting the hook shims where the mom looks for them, with this installation's paths filled in.
import { chownSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { NodeConfig } from '../config/node.ts';
import { VmbatchError } from '../util/errors.ts';
import { readForeignFile, writeFileAtomic } from '../util/files.ts';
import { shellQuote } from '../util/quote.ts';
import { resourcePath } from '../util/resources.ts';
import { noteMomJobs } from './mom-jobs.ts';
import { mustBeOwn } from './owner/state-owner.ts';
import { writeQueueList } from './queue-list.ts';

export interface HookInstallation {
  config: NodeConfig;
  configFile: string;
  /** The mom's `mom_priv`. */
  momDirectory: string;
  jobStarter: string;
  /** The Node that is to run us, and our executable. */
  node: string;
  vmbatch: string;
}

const SHIMS = ['prologue', 'epilogue', 'prologue.parallel', 'epilogue.parallel', 'job-starter'] as const;

/** A shim's text with its paths: the lines `NAME=…` at its top. */
export function renderShim(text: string, values: Readonly<Record<string, string>>): string {
  return Object.entries(values).reduce(
    (shim, [name, value]) =>
      shim.replace(new RegExp(`^${name}=.*$`, 'm'), () => `${name}=${shellQuote(value)}`),
    text,
  );
}

/** Installs the shims: for the first node of a job, for its other nodes, and the job starter.
 * @returns the files written.
 * @throws VmbatchError `node` if a hook of somebody else's is there already: it is not overwritten. */
export function installHooks(options: HookInstallation): string[] {
  const values = {
    node: options.node,
    vmbatch: options.vmbatch,
    config: options.configFile,
    state: options.config.state,
    queues: options.config.queues.join(' '),
  };
  const targets = {
    prologue: join(options.momDirectory, 'prologue'),
    epilogue: join(options.momDirectory, 'epilogue'),
    'prologue.parallel': join(options.momDirectory, 'prologue.parallel'),
    'epilogue.parallel': join(options.momDirectory, 'epilogue.parallel'),
    'job-starter': options.jobStarter,
  };
  for (const path of Object.values(targets)) checkOurs(path);
  mustBeOwn(options.config.state);
  writeQueueList(options.config, options.configFile);
  noteMomJobs(options.config.state, join(options.momDirectory, 'jobs'));
  for (const name of SHIMS) {
    const text = renderShim(readFileSync(resourcePath(`share/hooks/${name}`), 'utf8'), values);
    mkdirSync(dirname(targets[name]), { recursive: true });
    // The mom runs a prologue only if it is root's and nobody else may write it.
    writeFileAtomic(targets[name], text, name === 'job-starter' ? 0o755 : 0o500);
    chownSync(targets[name], 0, 0);
  }
  return Object.values(targets);
}

function checkOurs(path: string): void {
  const present = readForeignFile(path, { maxBytes: 1024 * 1024 }, 'node');
  if (present === undefined || present.includes("Put in place by 'vmbatch hooks install'")) return;
  throw new VmbatchError({
    fault: 'node',
    code: 'hook-present',
    message: `${path} is there already and is not from vmbatch`,
    hint: 'rename it and call it from there, or call the vmbatch shim from it',
  });
}
