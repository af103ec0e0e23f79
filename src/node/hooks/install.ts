// Putting the hook shims where the mom looks for them, with this installation's paths filled in, and taking
// them away again.
import { chownSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { NodeConfig } from '../../node-file/read.ts';
import { VmbatchError } from '../../util/errors.ts';
import { readForeignFile, removeFile, writeFileAtomic } from '../../util/files/files.ts';
import { resourcePath } from '../../util/program/resources.ts';
import { DEFAULT_JOB_STARTER, noteInstalled, readInstalled } from '../installed.ts';
import { noteMomJobs } from '../mom-jobs.ts';
import { mustBeOwn } from '../owner/state-owner.ts';
import { jobIds } from '../record.ts';
import { writeQueueList } from './queue-list.ts';
import { isShim, renderShim, SHIM_NAMES, type ShimName, shimValue } from './shim.ts';

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

/** Where a shim goes. */
export function shimPath(
  name: ShimName,
  { momDirectory, jobStarter }: Pick<HookInstallation, 'momDirectory' | 'jobStarter'>,
): string {
  return name === 'job-starter' ? jobStarter : join(momDirectory, name);
}

/** A shim as it is to be. */
export function shimText(name: ShimName, options: HookInstallation): string {
  return renderShim(readFileSync(resourcePath(`share/hooks/${name}`), 'utf8'), {
    node: options.node,
    vmbatch: options.vmbatch,
    config: options.configFile,
    state: options.config.state,
    queues: options.config.queues.join(' '),
  });
}

/** The mom runs a hook only if it is root's and nobody else may write it; jobs' users run the job starter. */
const shimMode = (name: ShimName): number => (name === 'job-starter' ? 0o755 : 0o500);

/** Installs the shims: for the first node of a job, for its other nodes, and the job starter.
 * @returns the files written.
 * @throws VmbatchError `node` if a hook of somebody else's is there already: it is not overwritten. */
export function installHooks(options: HookInstallation): string[] {
  const { config, momDirectory, jobStarter } = options;
  for (const name of SHIM_NAMES) checkOurs(shimPath(name, options));
  mustBeOwn(config.state);
  writeQueueList(config, options.configFile);
  noteMomJobs(config.state, join(momDirectory, 'jobs'));
  noteInstalled(config.state, { momDirectory, jobStarter, log: config.log });
  return SHIM_NAMES.map((name) => {
    const path = shimPath(name, options);
    if (name === 'job-starter') mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    writeFileAtomic(path, shimText(name, options), shimMode(name));
    chownSync(path, 0, 0);
    return path;
  });
}

/** Takes our hooks away again; those of somebody else's stay.
 * @returns the files removed
 * @throws VmbatchError `node` (`jobs-left`): without its epilogue a guest that is there would stay for
 * ever */
export function uninstallHooks(place: { momDirectory: string; jobStarter: string | undefined }): string[] {
  const { momDirectory } = place;
  const states = SHIM_NAMES.filter((name) => name !== 'job-starter').flatMap(
    (name) => shimValue(textOf(join(momDirectory, name)) ?? '', 'state') ?? [],
  );
  const jobStarter =
    place.jobStarter ??
    states.map((state) => readInstalled(state).jobStarter).find((path) => path !== undefined) ??
    DEFAULT_JOB_STARTER;
  const jobs = [...new Set(states)].flatMap((state) => jobIds(state));
  if (jobs.length > 0)
    throw new VmbatchError({
      fault: 'node',
      code: 'jobs-left',
      message: `there are guests of jobs on this node still: ${jobs.slice(0, 10).join(', ')}`,
      hint: 'take the node offline and wait until its jobs have ended; vmbatch reap removes what is left of others',
    });
  return SHIM_NAMES.map((name) => shimPath(name, { momDirectory, jobStarter })).filter(
    (path) => textOf(path) !== undefined && removeFile(path),
  );
}

/** The text of a shim of ours; undefined if there is none, or somebody else's. */
function textOf(path: string): string | undefined {
  const text = readForeignFile(path, { maxBytes: 1024 * 1024 }, 'node')?.toString('utf8');
  return text !== undefined && isShim(text) ? text : undefined;
}

function checkOurs(path: string): void {
  const present = readForeignFile(path, { maxBytes: 1024 * 1024 }, 'node');
  if (present === undefined || isShim(present.toString('utf8'))) return;
  throw new VmbatchError({
    fault: 'node',
    code: 'hook-present',
    message: `${path} is there already and is not from vmbatch`,
    hint: 'rename it and call it from there, or call the vmbatch shim from it',
  });
}
