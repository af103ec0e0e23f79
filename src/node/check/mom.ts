// The rows of `vmbatch check node` about the mom: its hooks, its job starter, its configuration.
import { readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { hookLimitMs, prologAlarmOf, readMomConfig } from '../../batch/torque/mom/mom-config.ts';
import type { NodeConfig } from '../../node-file/read.ts';
import { type Account, findAccount } from '../../util/accounts/account.ts';
import { type Check, type Finding, failed, ok, skipped, warning } from '../../util/check.ts';
import { errnoOf } from '../../util/errors.ts';
import { describeRun, type Run } from '../../util/processes/run.ts';
import { shimPath, shimText } from '../hooks/install.ts';
import { refusedTo, viewStarter } from '../hooks/job-starter.ts';
import { isShim, renderShim, SHIM_NAMES, type ShimName, shimValue } from '../hooks/shim.ts';
import { DEFAULT_JOB_STARTER, readInstalled } from '../installed.ts';
import type { MomPlace } from '../mom.ts';
import { wantedAlarm } from '../mom-lines.ts';

export interface MomSite {
  configFile: string;
  config: () => NodeConfig;
  /** @throws VmbatchError if it is not found */
  mom: () => MomPlace;
  /** The Node that runs us, and our executable. */
  node: string;
  vmbatch: string;
  run: Run;
}

const INSTALL = 'vmbatch hooks install';
const RUN_MS = 20_000;

export const MOM_CHECKS: readonly Check<MomSite>[] = [
  {
    name: 'mom',
    about: 'Where is the mom of this node?',
    check({ mom }) {
      return ok(mom().directory);
    },
  },
  {
    name: 'hooks',
    about: 'Are the hooks and the job starter what this vmbatch would install for this node file?',
    needs: ['node-file', 'mom'],
    check(site) {
      return SHIM_NAMES.map((name) => checkShim(name, site));
    },
  },
  {
    name: 'job-starter',
    about: 'Does the mom start jobs through our job starter, and could their users run it?',
    needs: ['node-file', 'mom'],
    check: checkStarter,
  },
  {
    name: 'prologalarm',
    about: 'Does the mom give a prologue the time that a guest may take?',
    needs: ['node-file', 'mom'],
    check({ mom, config }) {
      const momConfig = readMomConfig(mom().config);
      const { readyMs } = config().timeouts;
      const [alarm, limit] = [prologAlarmOf(momConfig), hookLimitMs(momConfig)];
      const found = `$prologalarm ${alarm}: the mom ends a prologue after ${limit / 1000} s`;
      if (limit >= readyMs) return ok(found);
      return failed(
        `${momConfig.file}: ${found}; timeouts.ready of the node file is ${readyMs / 1000} s`,
        `write "$prologalarm ${wantedAlarm(readyMs)}" there and restart pbs_mom with -p, or make timeouts.ready shorter`,
      );
    },
  },
];

function checkShim(name: ShimName, site: MomSite): Finding {
  const { mom, configFile } = site;
  const config = site.config();
  const momDirectory = mom().directory;
  const jobStarter = starterPath(site);
  const path = shimPath(name, { momDirectory, jobStarter });
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'EACCES') return skipped(`${path} cannot be read: run this as root`);
    return failed(`${path} is not there (${errnoOf(error)}): ${WITHOUT[name]}`, INSTALL);
  }
  if (!isShim(text))
    return text.includes('vmbatch')
      ? warning(`${path} is not from vmbatch, but speaks of it`, 'be sure that it calls ours')
      : failed(`${path} is not from vmbatch: ${WITHOUT[name]}`, `${INSTALL}, or call ours from it`);
  const { mode, uid } = statSync(path);
  if (name !== 'job-starter' && (uid !== 0 || (mode & 0o022) !== 0))
    return failed(`${path} may be written to by others than root: the mom does not run it`, INSTALL);
  if (name !== 'job-starter' && (mode & 0o500) !== 0o500)
    return failed(
      `${path} has mode ${octal(mode)}: the mom does not run it, and every job goes back into the queue`,
      `chmod 500 ${path}`,
    );
  const { node, vmbatch } = site;
  const wanted = shimText(name, { config, configFile, momDirectory, jobStarter, node, vmbatch });
  return compare(path, text, wanted) ?? ok(path);
}

const octal = (mode: number) => (mode & 0o7777).toString(8).padStart(4, '0');

/** What happens without a shim. */
const WITHOUT: Readonly<Record<ShimName, string>> = {
  prologue: 'jobs get no guests',
  epilogue: 'guests stay when their jobs have ended',
  'prologue.parallel': 'jobs on several nodes cannot start here',
  'epilogue.parallel': 'guests of jobs on several nodes stay when these have ended',
  'job-starter': 'jobs run on the node itself',
};

/** What is other than it would be now; undefined: nothing. */
function compare(path: string, text: string, wanted: string): Finding | undefined {
  if (text === wanted) return undefined;
  const values: Record<string, string> = {};
  let mild: Finding | undefined;
  for (const name of ['config', 'state', 'node', 'vmbatch', 'queues'] as const) {
    const [is, would] = [shimValue(text, name), shimValue(wanted, name)];
    if (is === undefined || would === undefined) continue;
    values[name] = is;
    if (samePath(is, would)) continue;
    const found = `${path} was installed with ${name}=${is}, and would be with ${name}=${would} now`;
    const isThere = statSync(is, { throwIfNoEntry: false })?.isFile() ?? false;
    if (name === 'queues' || (isThere && name !== 'config'))
      mild ??= warning(found, `${INSTALL} brings it up to date`);
    else return failed(isThere || name === 'state' ? found : `${found}; ${is} is not there`, INSTALL);
  }
  if (renderShim(wanted, values) !== text)
    return failed(`${path} is not what this version of vmbatch installs`, INSTALL);
  return mild;
}

function samePath(one: string, other: string): boolean {
  try {
    return one === other || realpathSync(one) === realpathSync(other);
  } catch {
    return false;
  }
}

/** Where the job starter is: what the mom has been told, else where it was put. */
function starterPath({ mom, config }: MomSite): string {
  const { state } = config();
  const { path } = viewStarter(readMomConfig(mom().config), state);
  return path ?? readInstalled(state).jobStarter ?? DEFAULT_JOB_STARTER;
}

async function checkStarter({ mom, config, node, vmbatch, run }: MomSite): Promise<Finding | Finding[]> {
  const { state, guard } = config();
  const view = viewStarter(readMomConfig(mom().config), state);
  if (view.flaws.length > 0) return view.flaws.map(({ found, advice }) => failed(found, advice));
  const account = await findAccount(guard.user);
  const refused = await refusedTo(account, view, run);
  if (refused !== undefined) return failed(refused.found, refused.advice);
  const path = view.path ?? '';
  if (process.geteuid?.() !== 0) return skipped(`${path}: run this as root to see whether a user can run it`);
  const text = readFileSync(path, 'utf8');
  const words = [shimValue(text, 'node') ?? node, shimValue(text, 'vmbatch') ?? vmbatch, 'run', '--help'];
  return tryAs(account, words, path, run);
}

/** What a job would do, without a job: no look at files tells as much. */
async function tryAs(
  { name, uid, gid, groups }: Account,
  words: readonly string[],
  path: string,
  run: Run,
): Promise<Finding> {
  const ids = [gid, ...groups.map((group) => group.gid)].join(',');
  const become = [`--reuid=${uid}`, `--regid=${gid}`, `--groups=${ids}`, '--reset-env', '--'];
  const tried = await run('setpriv', [...become, ...words], { timeoutMs: RUN_MS, cwd: '/' });
  if (tried.exitCode === 0) return ok(`${path}: the account ${name} can run it`);
  const installation = dirname(words[1] ?? '');
  return failed(
    `${name} cannot run vmbatch as the job starter would: ${describeRun(tried)}`,
    `let all users read ${installation} and enter what leads to it: chmod -R a+rX ${installation}`,
  );
}
