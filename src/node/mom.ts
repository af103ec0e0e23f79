// Which mom this is about: the one that runs a hook, or the one of this node.
import { existsSync, readFileSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { momConfigIn } from '../batch/torque/mom/mom-config.ts';
import { eachProcess, type ProcessEntry } from '../hypervisor/guest-process.ts';
import { VmbatchError } from '../util/errors.ts';
import { momJobsDirectory } from './mom-jobs.ts';

export interface MomPlace {
  /** Its `mom_priv`. */
  directory: string;
  /** Its configuration, `config` in there unless it was started with `-c`. */
  config: string;
}

/** The mom that runs this hook; undefined: somebody tries it out by hand. A mom's job scripts are in
 * `mom_priv/jobs`, and its hooks are started in `mom_priv`. */
export function momOfHook(script: string): MomPlace | undefined {
  const jobs = dirname(script);
  const here = process.cwd();
  const directory =
    script.endsWith('.SC') && basename(jobs) === 'jobs'
      ? dirname(jobs)
      : existsSync('config') && existsSync('prologue')
        ? here
        : undefined;
  return directory === undefined ? undefined : placeOf(directory, ancestors());
}

/** The parents of this process, the nearest first: a mom forks before it starts a hook. */
function ancestors(): string[][] {
  const found: string[][] = [];
  let pid = process.ppid;
  for (let level = 0; level < 4 && pid > 1; level++)
    try {
      found.push(readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0'));
      pid = Number(/^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
    } catch {
      break;
    }
  return found;
}

function placeOf(directory: string, commandLines: readonly string[][]): MomPlace {
  const words = commandLines.find(isMom) ?? [];
  const named = optionOf(words, 'c');
  return { directory, config: named === undefined ? momConfigIn(directory) : resolve(directory, named) };
}

const isMom = (words: readonly string[]) => basename(words[0] ?? '') === 'pbs_mom';

/** The value of a short option, as getopt reads it. */
function optionOf(words: readonly string[], letter: string): string | undefined {
  const at = words.findIndex((word) => word.startsWith(`-${letter}`));
  if (at === -1) return undefined;
  return words[at]?.slice(2) || words[at + 1];
}

/** What there is to look at, replaced in tests. */
export interface MomClues {
  processes: () => Iterable<ProcessEntry>;
  /** Working directory of a process. */
  cwd: (pid: number) => string | undefined;
  read: (path: string) => string | undefined;
  isDirectory: (path: string) => boolean;
}

const REAL_CLUES: MomClues = {
  processes: eachProcess,
  cwd: (pid) => attempt(() => readlinkSync(`/proc/${pid}/cwd`)),
  read: (path) => attempt(() => readFileSync(path, 'utf8')),
  isDirectory: (path) => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false,
};

/** Where packages and TORQUE's own start files say what the home is. */
const START_FILES = [
  ...['/etc/sysconfig/pbs_mom', '/etc/default/pbs_mom', '/etc/default/torque-mom', '/etc/conf.d/pbs_mom'],
  ...['/etc/systemd/system/pbs_mom.service', '/usr/lib/systemd/system/pbs_mom.service'],
  ...['/lib/systemd/system/pbs_mom.service', '/etc/init.d/pbs_mom', '/etc/init.d/torque-mom'],
];
/** TORQUE's own default, and those of packages and of sites that build it themselves. */
const HOMES = ['/var/spool/torque', '/var/lib/torque', '/var/spool/pbs', '/var/torque', '/opt/torque'];

/** The mom of this node: the one that runs, else the one that the start files name, else one in a usual
 * place.
 * @param given `--mom-dir`
 * @throws VmbatchError `node` (`mom-not-found`): none, several, or no such directory */
export function findMom(given: string | undefined, clues: MomClues = REAL_CLUES): MomPlace {
  const running = runningMoms(clues);
  if (given !== undefined) {
    const directory = resolve(given);
    if (!clues.isDirectory(directory)) throw notFound(`${directory} is no directory`);
    // TORQUE makes it when it is installed.
    if (!clues.isDirectory(join(directory, 'jobs')))
      throw notFound(`${directory} has no directory jobs, and so is no mom_priv`);
    const same = running.find((place) => samePath(place.directory, directory));
    return same === undefined ? { directory, config: momConfigIn(directory) } : { ...same, directory };
  }
  if (running.length > 1)
    throw notFound(`several moms run here: ${running.map(({ directory }) => directory).join(', ')}`);
  if (running[0] !== undefined) return running[0];
  const homes = [...START_FILES.flatMap((file) => homesIn(clues.read(file) ?? '')), ...HOMES];
  const directory = homes.map((home) => join(home, 'mom_priv')).find(clues.isDirectory);
  if (directory !== undefined) return { directory, config: momConfigIn(directory) };
  throw notFound(`no pbs_mom runs here, and there is no mom_priv in ${HOMES.join(', ')}`);
}

/** The mom whose hooks use the state directory, by where it had its jobs last; else the one of this node.
 * @throws VmbatchError `node` (`mom-not-found`) */
export function momOfState(state: string): MomPlace {
  const jobs = momJobsDirectory(state);
  return findMom(jobs !== undefined && basename(jobs) === 'jobs' ? dirname(jobs) : undefined);
}

function notFound(why: string): VmbatchError {
  return new VmbatchError({
    fault: 'node',
    code: 'mom-not-found',
    message: `the mom_priv of this node's mom was not found: ${why}`,
    hint: 'name it: --mom-dir DIR, the directory with config and jobs of pbs_mom',
  });
}

function runningMoms(clues: MomClues): MomPlace[] {
  const places = new Map<string, MomPlace>();
  for (const { pid, uid, words } of clues.processes()) {
    if (uid !== 0 || !isMom(words)) continue;
    const cwd = clues.cwd(pid);
    const home = optionOf(words, 'd');
    const directory =
      cwd !== undefined && basename(cwd) === 'mom_priv'
        ? cwd
        : home === undefined
          ? undefined
          : join(home, 'mom_priv');
    if (directory !== undefined && clues.isDirectory(directory))
      places.set(directory, placeOf(directory, [[...words]]));
  }
  return [...places.values()];
}

/** `PBS_HOME=/x` in whatever kind of start file, and `pbs_mom … -d /x`. */
function homesIn(text: string): string[] {
  const lines = text.split('\n').filter((line) => !line.trimStart().startsWith('#'));
  return lines.flatMap((line) => {
    const [, named] = /\bPBS_HOME=["']?(\/[^"'\s]+)/.exec(line) ?? [];
    const [, option] = /(?:pbs_mom|ARGS)\b.*\s?-d\s*["']?(\/[^"'\s]+)/.exec(line) ?? [];
    return [option, named].filter((home) => home !== undefined);
  });
}

const samePath = (one: string, other: string) =>
  attempt(() => realpathSync(one)) === attempt(() => realpathSync(other));

function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
