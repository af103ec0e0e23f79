// Whether the mom starts jobs through our job starter, and whether that could do its work. Without it a job
// runs on the node itself, and nothing of TORQUE's says so: the prologue looks before it makes a guest,
// `check node` before a job comes.
import { accessSync, constants, readFileSync, realpathSync, type Stats, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isOn, MAX_MOM_LINE, type MomConfig, settingsNamed } from '../../batch/torque/mom/mom-config.ts';
import type { Account } from '../../util/accounts/account.ts';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import type { Run } from '../../util/processes/run.ts';
import { DEFAULT_JOB_STARTER, readInstalled } from '../installed.ts';
import { isShim, shimValue } from './shim.ts';

/** Something because of which jobs would not run in their guests. */
interface StarterFlaw {
  code: 'starter-unset' | 'starter-broken' | 'starter-privileged' | 'mom-config-refused';
  found: string;
  advice: string;
}

export interface StarterView {
  /** What the mom starts for each job; undefined: the user's shell. */
  path: string | undefined;
  /** Files that the job's user must be able to reach, and what for. */
  needs: readonly { path: string; to: 'read' | 'execute' | 'enter' }[];
  flaws: readonly StarterFlaw[];
}

const INSTALL = 'run vmbatch hooks install';

/** The line that the mom's configuration lacks, in words. */
function lineAdvice(mom: MomConfig, starter: string): string {
  return `add the line "$job_starter ${starter}" to ${mom.file}, then restart pbs_mom with -p`;
}

/** Looks at the mom's configuration and at what it names.
 * @param state the state directory of the hooks */
export function viewStarter(mom: MomConfig, state: string): StarterView {
  const expected = readInstalled(state).jobStarter ?? DEFAULT_JOB_STARTER;
  const flaws: StarterFlaw[] = [];
  const view = { path: undefined, needs: [], flaws };
  const flaw = (code: StarterFlaw['code'], found: string, advice: string) => {
    flaws.push({ code, found, advice });
    return view;
  };
  if (mom.problem !== undefined)
    return flaw(
      'mom-config-refused',
      `the mom does not read ${mom.file}: ${mom.problem}`,
      `chown root ${mom.file}; chmod go-w ${mom.file}; then restart pbs_mom with -p`,
    );
  if (isOn(mom, 'job_starter_run_privileged'))
    flaw(
      'starter-privileged',
      `${mom.file} has $job_starter_run_privileged: the job starter, and the jobs of other queues, would run as root`,
      'take that line out, then restart pbs_mom with -p',
    );
  const lines = settingsNamed(mom, 'job_starter');
  const last = lines.at(-1);
  if (last === undefined)
    return flaw(
      'starter-unset',
      `${mom.file} has no $job_starter: a job would run on the node itself, not in its guest`,
      lineAdvice(mom, expected),
    );
  // As the mom: a line with a file that it cannot start does not count, the one before it does.
  const usable = lines.findLast(({ value }) => ((statOf(value)?.mode ?? 0) & 0o100) !== 0);
  if (usable === undefined) {
    const there = statOf(last.value) === undefined ? 'is not there' : 'is not executable';
    const why = last.isCut ? ` (the mom reads ${MAX_MOM_LINE} characters of a line)` : '';
    return flaw(
      'starter-broken',
      `${mom.file}:${last.line}: $job_starter ${last.value} ${there}${why}: the mom ignores the line`,
      `${INSTALL} --job-starter ${last.value}, then restart pbs_mom with -p`,
    );
  }
  const given = readText(usable.value);
  // A site's own may call ours for our queues.
  const calls = !isShim(given) && given.includes(expected);
  const path = calls ? expected : usable.value;
  const text = calls ? readText(expected) : given;
  if (!isShim(text)) {
    const over = lines.find(({ value }) => isShim(readText(value)));
    const instead = over === undefined ? '' : `, which takes the place of line ${over.line}`;
    return flaw(
      'starter-unset',
      `${mom.file}:${usable.line}: $job_starter is ${usable.value}${instead}, not the one of vmbatch`,
      `${lineAdvice(mom, expected)}; or call that from your own for the queues that vmbatch serves`,
    );
  }
  const { uid, mode } = statOf(path) ?? { uid: 0, mode: 0o755 };
  if (uid !== 0 || (mode & 0o022) !== 0)
    flaw(
      'starter-broken',
      `${path} can be changed by others than root`,
      `chown root ${path}; chmod 755 ${path}`,
    );
  const [itsState, node, vmbatch] = [
    shimValue(text, 'state'),
    shimValue(text, 'node') ?? '',
    shimValue(text, 'vmbatch') ?? '',
  ];
  if (itsState !== state)
    flaw(
      'starter-broken',
      `${path} was installed for state: ${itsState}, the hooks for ${state}`,
      `${INSTALL} --job-starter ${path}`,
    );
  for (const [name, file] of [
    ['node', node],
    ['vmbatch', vmbatch],
  ] as const) {
    const there = problemOf(file, name === 'node' ? constants.X_OK : constants.R_OK);
    if (there !== undefined)
      flaw('starter-broken', `${path}: ${name}=${file} ${there}`, `${INSTALL} --job-starter ${path}`);
  }
  return { path, flaws, needs: needsOf({ path, node, vmbatch, state }) };
}

function needsOf(of: { path: string; node: string; vmbatch: string; state: string }): StarterView['needs'] {
  const chunk = join(dirname(realpathOf(of.vmbatch)), 'lib', 'run.cjs');
  const to = (kind: StarterView['needs'][number]['to'], path: string) => ({
    path: realpathOf(path),
    to: kind,
  });
  return [
    to('read', of.path),
    to('execute', of.path),
    to('execute', of.node),
    to('read', of.vmbatch),
    ...(statOf(chunk) === undefined ? [] : [to('read', chunk)]),
    // Not there before the first job.
    ...(statOf(of.state) === undefined ? [] : [to('enter', of.state)]),
  ];
}

/** The first thing that keeps the account from what the job starter needs; undefined: nothing. By the bits of
 * the files, which costs nothing; where they say no, an access list may still say yes, so a program tries it
 * as the account. */
export async function refusedTo(
  account: Pick<Account, 'name' | 'uid' | 'gid' | 'groups'>,
  { needs }: StarterView,
  run: Run,
): Promise<StarterFlaw | undefined> {
  if (account.uid === 0) return undefined;
  const groups = [account.gid, ...account.groups.map(({ gid }) => gid)];
  for (const { path, to } of needs) {
    const place = barrier(path, to, account.uid, groups);
    if (place === undefined) continue;
    const flag = { read: '-r', execute: '-x', enter: '-x' }[to];
    const ids = [`--reuid=${account.uid}`, `--regid=${account.gid}`, `--groups=${groups.join(',')}`];
    const tried = await run('setpriv', [...ids, '--', 'test', flag, path], { timeoutMs: 10_000 });
    if (tried.exitCode === 0) continue;
    const mend = to === 'read' && place === path ? `chmod a+r ${place}` : `chmod a+rx ${place}`;
    return {
      code: 'starter-broken',
      found: `${account.name} cannot ${to} ${path}${place === path ? '' : `: ${place} is closed`}`,
      advice: `the job starter is run by the job's user: ${mend}`,
    };
  }
  return undefined;
}

/** The directory, or the file itself, whose bits keep somebody out. */
function barrier(path: string, to: string, uid: number, groups: readonly number[]): string | undefined {
  const parts = path.split('/').filter(Boolean);
  for (let count = 0; count <= parts.length; count++) {
    const place = `/${parts.slice(0, count).join('/')}`;
    const stats = statOf(place);
    if (stats === undefined) return undefined; // said elsewhere
    const bit = count === parts.length && to === 'read' ? 4 : 1;
    const shift = stats.uid === uid ? 6 : groups.includes(stats.gid) ? 3 : 0;
    if (((stats.mode >> shift) & bit) === 0) return place;
  }
  return undefined;
}

/** The mom says nothing when it starts a job without us: this is the last that can be done about it before a
 * job runs, and what a guest that is started for a test must not leave out.
 * @param account of the job
 * @throws VmbatchError `node`: the first flaw */
export async function mustStartJobs(
  account: Pick<Account, 'name' | 'uid' | 'gid' | 'groups'>,
  { mom, state, run }: { mom: MomConfig; state: string; run: Run },
): Promise<void> {
  const view = viewStarter(mom, state);
  const first = view.flaws[0] ?? (await refusedTo(account, view, run));
  if (first === undefined) return;
  throw new VmbatchError({
    fault: 'node',
    code: first.code,
    message: `jobs would not run in their guests here: ${first.found}`,
    hint: first.advice,
  });
}

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

function realpathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

const MAX_SHIM = 256 * 1024;

/** The text of a program that may be a script; anything else has none. */
function readText(path: string): string {
  try {
    const stats = statSync(path);
    return stats.isFile() && stats.size <= MAX_SHIM ? readFileSync(path, 'utf8') : '';
  } catch {
    return '';
  }
}

function problemOf(path: string, mode: number): string | undefined {
  try {
    accessSync(path, mode);
    return statSync(path).isFile() ? undefined : 'is not a file';
  } catch (error) {
    return errnoOf(error) === 'ENOENT' ? 'is not there' : `cannot be used (${errnoOf(error)})`;
  }
}
