// What the checks of a CE look at: the configuration as it is, programs with a deadline, and the eyes of a
// mapped user.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type ArcConfiguration, parseArcConfiguration } from '../../arc/configuration/configuration.ts';
import { type Block, parseBlocks } from '../../arc/ini.ts';
import { decodeBytes } from '../../arc/text.ts';
import {
  type Attributes,
  describeQueues,
  describeServer,
  type QueueDescription,
} from '../../batch/torque/answers/queues.ts';
import type { Torque } from '../../batch/torque/commands.ts';
import { findAccount } from '../../util/accounts/account.ts';
import { errnoOf } from '../../util/errors.ts';
import type { Run, RunResult } from '../../util/processes/run.ts';
import { spawnRun } from '../../util/processes/spawn-run.ts';
import { type ConfigurationFiles, readConfigurationFiles } from './files.ts';

export interface CeSiteOptions {
  /** `arc.conf` as its admin writes it, or the file that A-REX makes of it. */
  file: string;
  /** The folder of this program and its `arc-backend`, links resolved. */
  installation: string;
  version: string;
  /** ARC_LOCATION and the like. */
  environment: NodeJS.ProcessEnv;
  /** Where the system tells of itself; tests have their own. */
  system?: Partial<SystemPaths>;
  /** For each program that is asked something. Default: 4 s. */
  programMs?: number;
  /** For everything. Default: 8 s. */
  deadlineMs?: number;
}

interface SystemPaths {
  /** Mounted file systems. */
  mounts: string;
  /** What the kernel's NFS server exports. */
  exports: string;
  /** The processes. */
  proc: string;
  /** PATH of a service; the admin's own may be longer. */
  servicePath: string;
}

const SYSTEM: SystemPaths = {
  mounts: '/proc/self/mounts',
  exports: '/var/lib/nfs/etab',
  proc: '/proc',
  servicePath: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
};

/** Whose eyes a check looks through. */
export interface Viewer {
  name: string;
  /** Whether jobs run as that account; else it stands for anybody. */
  mapped: boolean;
  /** Runs a program as that account. */
  run: (file: string, args: readonly string[], env?: NodeJS.ProcessEnv) => Promise<RunResult>;
}

export interface CeSite extends CeSiteOptions {
  system: SystemPaths;
  /** Why the file cannot be read. */
  unreadable: string | undefined;
  /** The lines of the file and of what ARC adds to it, the first at 1. */
  lines: readonly string[];
  /** `FILE:LINE` of one of them. */
  where: (line: number) => string;
  /** Files of arc.conf.d, which ARC 7 adds. */
  added: readonly string[];
  blocks: ReadonlyMap<string, Block>;
  /** With the values that A-REX puts in where the file has none; what is wrong is left out. */
  configuration: ArcConfiguration & { pbsBinPath: string; pbsLogPath: string; controlDirectory: string };
  /** Everything that is wrong in the file, each with its line. */
  problems: readonly { message: string; line: number }[];
  /** Values of a repeatable option, as text. */
  values: (block: string, key: string) => string[];
  /** ARC's own folders, and which ARC it is; undefined: its validator is not there to tell. */
  arc: { location: string; data: string; version: 6 | 7 | undefined };
  /** Runs a program with a deadline of seconds. */
  run: Run;
  torque: Torque;
  isRoot: boolean;
  /** The names in `[mapping]`, the first few. */
  mappedNames: readonly string[];
  viewer: () => Promise<Viewer>;
  /** The attributes of the server; asked once. */
  server: () => Promise<Attributes>;
  /** All queues; asked once. */
  queues: () => Promise<readonly QueueDescription[]>;
}

/** What A-REX puts in for options that are not given. */
const ARC_DEFAULTS = {
  pbsBinPath: '/usr/bin',
  pbsLogPath: '/var/spool/pbs/server_logs',
  controlDirectory: '/var/spool/arc/jobstatus',
};
export const DEFAULT_SESSION_DIRECTORY = '/var/spool/arc/sessiondir';

/** For each program. What hangs is given up early enough to say so. */
const PROGRAM_MS = 4_000;
const MAX_MAPPED = 3;

/** @param signal stops the programs that still run */
export function openCeSite(options: CeSiteOptions, signal: AbortSignal): CeSite {
  const { file, environment } = options;
  const system = { ...SYSTEM, ...options.system };
  const location = environment['ARC_LOCATION'] || '/usr';
  const version = arcVersion(location);
  let files: ConfigurationFiles = { text: '', where: (line) => `${file}:${line}`, added: [] };
  let unreadable: string | undefined;
  try {
    files = readConfigurationFiles(file, version === 7);
  } catch (error) {
    unreadable = errnoOf(error) ?? String(error);
  }
  const { text } = files;
  const problems: { message: string; line: number }[] = [];
  const configuration = parseArcConfiguration(text, file, ({ message }) => {
    const line = Number(/^:(\d+): /.exec(message.slice(file.length))?.[1] ?? 0);
    const rest = message.slice(`${file}:${line}`.length);
    const elsewhere = (_: string, also: string) => `also in ${files.where(Number(also))}`;
    problems.push({
      message:
        line === 0 ? message : `${files.where(line)}${rest.replace(/\balso in line (\d+)/, elsewhere)}`,
      line,
    });
  });
  const blocks = parseBlocks(text, file, () => undefined);
  const values = (block: string, key: string) =>
    (blocks.get(block)?.get(key) ?? [])
      .map(({ value }) => decodeBytes(value))
      .filter((value) => value !== '');
  const pbsBinPath = configuration.pbsBinPath ?? ARC_DEFAULTS.pbsBinPath;
  const bounded: Run = (program, args, given = {}) =>
    spawnRun(program, args, { timeoutMs: options.programMs ?? PROGRAM_MS, signal, ...given });
  const torque = { binPath: pbsBinPath, run: bounded };
  const isRoot = process.geteuid?.() === 0;
  const names = mappedNames(values);
  return {
    ...options,
    system,
    unreadable,
    lines: ['', ...text.split('\n')],
    where: files.where,
    added: files.added,
    blocks,
    configuration: {
      ...configuration,
      pbsBinPath,
      pbsLogPath: configuration.pbsLogPath ?? ARC_DEFAULTS.pbsLogPath,
      controlDirectory: configuration.controlDirectory ?? ARC_DEFAULTS.controlDirectory,
    },
    problems,
    values,
    arc: { location, data: join(location, 'share/arc'), version },
    run: bounded,
    torque,
    isRoot,
    mappedNames: names,
    viewer: once(() => findViewer(names, isRoot, bounded)),
    server: once(() => describeServer(torque)),
    queues: once(() => describeQueues(torque)),
  };
}

/** ARC 6 has a validator of its own; ARC 7 has it in arcctl, which 6 has too. */
function arcVersion(location: string): 6 | 7 | undefined {
  if (existsSync(join(location, 'lib/arc/arc-config-check'))) return 6;
  return existsSync(join(location, 'sbin/arcctl')) ? 7 : undefined;
}

function once<T>(ask: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined;
  return () => {
    answer ??= ask();
    return answer;
  };
}

/** The accounts that `[mapping]` names: directly, in a pool, or in a file of subjects. */
function mappedNames(values: (block: string, key: string) => string[]): string[] {
  const second = (value: string) => value.split(/\s+/)[1] ?? '';
  const lines = (path: string): string[] => {
    try {
      return readFileSync(path, 'utf8').split('\n');
    } catch {
      return []; // A-REX complains of it; here it only names nobody
    }
  };
  const names = [
    ...values('mapping', 'map_to_user').map(second),
    ...values('mapping', 'map_to_pool').flatMap((value) => lines(join(second(value), 'pool'))),
    ...values('mapping', 'map_with_file')
      .flatMap((value) => lines(second(value)))
      .map((line) => /^\s*(?:"[^"]*"|[^"#\s]\S*)\s+([^\s,]+)/.exec(line)?.[1] ?? ''),
  ].map((name) => (name.split(':')[0] ?? '').trim());
  return [...new Set(names)].filter((name) => /^[A-Za-z_][\w.-]*\$?$/.test(name)).slice(0, MAX_MAPPED);
}

/** The first mapped account that exists; else nobody, who sees what all may see; not root: ourselves. */
async function findViewer(names: readonly string[], isRoot: boolean, bounded: Run): Promise<Viewer> {
  if (!isRoot)
    return {
      name: process.env['USER'] ?? `uid ${process.geteuid?.()}`,
      mapped: false,
      run: (file, args, env) => bounded(file, args, env === undefined ? {} : { env }),
    };
  for (const name of [...names, 'nobody']) {
    const account = await findAccount(name).catch(() => undefined);
    if (account === undefined) continue;
    const become = ['--reuid', String(account.uid), '--regid', String(account.gid), '--init-groups', '--'];
    return {
      name,
      mapped: name !== 'nobody' || names.includes(name),
      run: async (file, args, env) => {
        const options = { cwd: '/', ...(env === undefined ? {} : { env }) };
        const result = await bounded('setpriv', [...become, file, ...args], options);
        return { ...result, command: [file, ...args].join(' ') };
      },
    };
  }
  return { name: 'root', mapped: false, run: (file, args, env) => bounded(file, args, env ? { env } : {}) };
}

/** What keeps the viewer from a path; undefined if nothing does.
 * @param bits what `test` is asked: `-x`, `-r`, `-w` */
export async function obstacle(
  viewer: Viewer,
  path: string,
  bits: readonly string[],
): Promise<string | undefined> {
  const may = async (at: string, bit: string): Promise<boolean | undefined> => {
    const { exitCode } = await viewer.run('test', [bit, at]);
    return exitCode === 0 ? true : exitCode === 1 ? false : undefined;
  };
  const words: Record<string, string> = {
    '-x': 'enter or execute',
    '-r': 'read',
    '-w': 'write',
    '-e': 'find',
  };
  for (const bit of bits) {
    const answer = await may(path, bit);
    if (answer === true) continue;
    if (answer === undefined) return `${path} does not answer`;
    const parents: string[] = [];
    for (let at = dirname(path); at !== '/' && at !== '.'; at = dirname(at)) parents.unshift(at);
    for (const parent of parents)
      if ((await may(parent, '-x')) !== true) return `${viewer.name} cannot enter ${parent}`;
    return `${viewer.name} cannot ${words[bit] ?? bit} ${path}`;
  }
  return undefined;
}
