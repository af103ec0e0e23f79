// What the directories of the node file may not be, and which of them may not lie in which.

import { describeFound } from '../util/values.ts';
import type { NodeConfig } from './config.ts';
import type { NodeFileProblem } from './problems.ts';

/** Where there are no files of anybody's. */
const OF_THE_KERNEL = ['/proc', '/sys', '/dev'];

interface Named {
  key: readonly PropertyKey[];
  path: string | undefined;
}

/** Problems of a node file whose values are all well-formed. Only what is written in it: `check node` looks
 * at the disk. */
export function directoryProblems(config: NodeConfig): NodeFileProblem[] {
  const { hypervisor, context, network, guard, disk } = config;
  const state = { key: ['state'], path: config.state };
  const log = { key: ['log'], path: config.log };
  const locks = { key: ['network', 'lock_directory'], path: network.lockDirectory };
  const share = { key: ['share', 'path'], path: config.share.path };
  const mounts = config.mounts.map(({ path }, index) => ({ key: ['mounts', index, 'path'], path }));
  const scratch = { key: ['disk', 'scratch', 'path'], path: disk.scratch.path };
  const programs: Named[] = [
    { key: ['hypervisor', 'templates'], path: hypervisor.templates },
    { key: ['context', 'templates'], path: context.templates },
    { key: ['context', 'prolog'], path: context.prolog },
    { key: ['context', 'epilog'], path: context.epilog },
    { key: ['context', 'before_job'], path: context.beforeJob },
    { key: ['context', 'after_job'], path: context.afterJob },
    { key: ['guard', 'pbs_bin_path'], path: guard.pbsBinPath },
  ];
  const signatures = { key: ['signatures', 'ca_directory'], path: config.signatures.caDirectory };
  const problems: NodeFileProblem[] = [];
  const refuse = ({ key, path }: Named, allowed: string) =>
    problems.push({ path: key, atKey: false, text: `found ${describeFound(path)}, allowed: ${allowed}` });

  for (const named of [state, log, locks, share, ...mounts, scratch, signatures, ...programs])
    if (OF_THE_KERNEL.some((place) => isIn(named.path, place)))
      refuse(named, `a place outside of ${OF_THE_KERNEL.join(', ')}`);
  for (const [named, name] of [
    [state, 'state'],
    [log, 'log'],
  ] as const)
    for (const shared of [share, ...mounts])
      if (isIn(named.path, shared.path) || isIn(shared.path, named.path))
        refuse(
          named,
          `a directory apart from ${show(shared)}, which guests mount; ${name} is the node's own`,
        );
  for (const named of programs)
    if (isIn(named.path, share.path))
      refuse(named, `a place outside of ${show(share)}, where guests can write`);
  if (isIn(log.path, state.path) || isIn(state.path, log.path))
    refuse(log, `a directory apart from ${show(state)}`);
  if (isIn(locks.path, state.path) && locks.path !== `${state.path}/leases`)
    refuse(locks, `a directory apart from ${show(state)}, or ${describeFound(`${state.path}/leases`)}`);
  for (const [index, mount] of mounts.entries())
    for (const earlier of [share, ...mounts.slice(0, index)])
      if (isIn(earlier.path, mount.path))
        refuse(mount, `a place that does not hide ${show(earlier)}, which is mounted before`);
  if (disk.scratch.maximumBytes > 0)
    for (const shared of [share, ...mounts])
      if (isIn(scratch.path, shared.path) || isIn(shared.path, scratch.path))
        refuse(scratch, `a place apart from ${show(shared)}, which is mounted as well`);
  return problems;
}

/** Whether a path is a directory or lies in it. */
function isIn(path: string | undefined, directory: string): boolean {
  return path !== undefined && (path === directory || path.startsWith(`${directory}/`));
}

const show = ({ key, path }: Named) =>
  `${key
    .map((part) => (typeof part === 'number' ? `[${part}]` : String(part)))
    .join('.')
    .replaceAll('.[', '[')} (${path})`;
