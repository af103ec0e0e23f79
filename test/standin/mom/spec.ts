// What the launcher is told about a job: hooks with their arguments and environment, the job's own, its
// output files.

import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parseDuration } from '../common/format.ts';
import type { Pair, StartMessage } from '../common/protocol.ts';
import type { MomPaths } from '../common/site.ts';
import { sizeInBytes } from '../server/resources.ts';
import { hookSeconds, type MomConfig } from './config.ts';
import { filePrefix } from './job-file.ts';

/** Names and values of a spec file; a name ending in `[]` may come again. */
export type Spec = Pair[];

/** A name or value with a NUL byte cannot be written; the server does not accept such. */
export function encodeSpec(spec: Spec): string {
  return spec.map(([name, value]) => `${name}\0${value}\0`).join('');
}

export interface JobFiles {
  script: string;
  /** What the mom tells of the job, as TORQUE's does. */
  job: string;
  /** What this stand-in needs to go on with the job. */
  record: string;
  token: string;
  nodeFile: string;
  out: string;
  err: string;
}

export function jobFiles(paths: MomPaths, message: StartMessage): JobFiles {
  const { id, join: joined, home, name, keep } = message;
  const prefix = filePrefix(id);
  // What is kept is written in the home from the first byte on: `std_file_name` in TORQUE's start_exec.c.
  const place = (key: 'o' | 'e', suffix: string) =>
    keep.includes(key)
      ? join(home, `${name}.${key}${/^\d*/.exec(id)?.[0] ?? ''}`)
      : join(paths.spool, `${prefix}.${suffix}`);
  const [out, err] = [place('o', 'OU'), place('e', 'ER')];
  return {
    script: join(paths.jobs, `${prefix}.SC`),
    job: join(paths.jobs, `${prefix}.JB`),
    record: join(paths.jobs, `${prefix}.standin`),
    token: join(paths.jobs, `${prefix}.TK`),
    nodeFile: `${paths.aux}//${id}`,
    out: joined === 'eo' ? err : out,
    err: joined === 'oe' ? out : err,
  };
}

/** Resources as the hooks' arguments list them: all but the node count. */
function resourceWords(resources: readonly Pair[]): string {
  return resources
    .filter(([name]) => name !== 'nodect')
    .map(([name, value]) => `${name}=${value}`)
    .join(',');
}

function resource(message: StartMessage, name: string): string | undefined {
  return message.resources.find(([other]) => other === name)?.[1];
}

function variable(message: StartMessage, name: string): string {
  return message.variables.find(([other]) => other === name)?.[1] ?? '';
}

/** Last value wins, first place stays. */
function environmentSpec(name: string, pairs: readonly Pair[]): Spec {
  return [...new Map(pairs)].map(([key, value]): Pair => [`${name}[]`, `${key}=${value}`]);
}

interface Place {
  paths: MomPaths;
  node: string;
  config: MomConfig;
  environment: Pair[];
}

/** What `setup_pelog_environment` in TORQUE's prolog.c makes of a node request for hooks: a request that
 * begins with a name has no number of nodes and no ppn, and the first ppn counts for all parts. */
export function hookNumbers(nodes: string, slots: number): Pair[] {
  const leading = (text: string) => Number.parseInt(/^\s*[0-9]+/.exec(text)?.[0] ?? '0', 10);
  const [first = '', ...others] = nodes.split('+');
  const count = leading(first);
  const ppn = count === 0 ? 1 : Number(/:ppn=([0-9]+)/.exec(nodes)?.[1] ?? 1);
  const all = count === 0 ? 0 : others.reduce((sum, part) => sum + leading(part), count);
  return [
    ['PBS_NP', String(slots)],
    ['PBS_NUM_NODES', String(all)],
    ['PBS_NUM_PPN', String(ppn)],
  ];
}

/** @param rank 0 on the job's first node, which alone has the node file */
function common(message: StartMessage, files: JobFiles, place: Place, rank = 0): Spec {
  const nodes = resource(message, 'nodes');
  const hookEnvironment: Pair[] = [
    ...place.environment,
    ['PBS_MSHOST', message.nodeFile[0] ?? place.node],
    ...(rank === 0 ? ([['PBS_NODEFILE', files.nodeFile]] satisfies Pair[]) : []),
    ['PBS_NODENUM', String(rank)],
    ...(nodes === undefined ? [] : hookNumbers(nodes, message.slots)),
    ['PBS_O_WORKDIR', variable(message, 'PBS_O_WORKDIR')],
  ];
  if (nodes !== undefined) hookEnvironment.push(['PBS_RESOURCE_NODES', nodes]);
  return [
    ['id', message.id],
    ['sessions', place.paths.sessions],
    ['mom_priv', place.paths.momPriv],
    ['uid', String(message.uid)],
    ['gid', String(message.gid)],
    ...message.groups.map((group): Pair => ['groups[]', String(group)]),
    ['home', message.home],
    ['umask', String(message.umask)],
    ['out', files.out],
    ['err', files.err],
    ['alarm', String(hookSeconds(place.config.prologAlarm))],
    ...environmentSpec('hook_env', hookEnvironment),
  ];
}

/** Paths as the user gave them in `-l prologue=`: relative ones lie in the submit directory. */
function ownHook(message: StartMessage, name: string): Spec {
  const path = resource(message, name);
  if (path === undefined) return [];
  const full = path.startsWith('/') ? path : join(variable(message, 'PBS_O_WORKDIR'), path);
  return [['hook[]', `own\t${full}`]];
}

function prologueWords(message: StartMessage, files: JobFiles): string[] {
  const { id, user, group, name, resources, queue, account } = message;
  return [id, user, group, name, resourceWords(resources), queue, account, files.script];
}

/** The hooks on another node of the job: as TORQUE's source has it, with the arguments of the first node's
 * and a path of a job script that is not there. */
export function sisterSpec(
  message: StartMessage,
  files: JobFiles,
  place: Place,
  rank: number,
  end: { used: Pair[]; exitStatus: number } | undefined,
): Spec {
  const words =
    end === undefined ? prologueWords(message, files) : epilogueWords(message, files, { ...end, session: 0 });
  const kind = end === undefined ? 'prologue' : 'epilogue';
  const { momPriv } = place.paths;
  return [
    ...common(message, files, place, rank),
    ...words.map((value): Pair => ['hook_arg[]', value]),
    ['hook[]', `root\t${join(momPriv, `${kind}.parallel`)}`],
    ['hook[]', `user\t${join(momPriv, `${kind}.user.parallel`)}`],
  ];
}

export function startSpec(message: StartMessage, files: JobFiles, place: Place): Spec {
  const { config, paths } = place;
  const hookArguments = prologueWords(message, files);
  const shell = message.shell ?? message.loginShell;
  const argv =
    config.jobStarter !== undefined
      ? [config.jobStarter, shell]
      : [message.shell ?? `-${basename(message.loginShell)}`];
  const words = message.scriptArguments === undefined ? '' : ` ${message.scriptArguments}`;
  return [
    ...common(message, files, place),
    ...hookArguments.map((value): Pair => ['hook_arg[]', value]),
    ['hook[]', `root\t${join(paths.momPriv, 'prologue')}`],
    ['hook[]', `user\t${join(paths.momPriv, 'prologue.user')}`],
    ...ownHook(message, 'prologue'),
    ...stageSpec(message.stageIn.map(({ local, remote }) => [remote, local])),
    ['token', files.token],
    ['privileged', config.jobStarter !== undefined && config.jobStarterPrivileged ? '1' : ''],
    ['cwd', message.initDir ?? message.home],
    ['program', config.jobStarter ?? shell],
    ...argv.map((word): Pair => ['argv[]', word]),
    ['stdin', `${files.script}${words}\n`],
    ...environmentSpec('env', jobEnvironment(message, files, place, shell)),
    ...limitSpec(message),
  ];
}

/** The system's numbers of limits on address space, data, resident memory, file size and CPU time. */
const RLIMIT = { as: 9, data: 2, rss: 5, fsize: 1, cpu: 0 };

/** What TORQUE's mom_set_limits makes of what the job asks for: the smaller one of vmem and pvmem, but not
 * less than pmem. */
function limitSpec(message: StartMessage): Spec {
  const bytes = (name: string) => sizeInBytes(resource(message, name) ?? '');
  const memory = bytes('pmem') ?? (message.nodes === 1 ? bytes('mem') : undefined);
  const virtual = [bytes('vmem'), bytes('pvmem')].filter((size) => size !== undefined);
  const limits: [keyof typeof RLIMIT, number | undefined][] = [
    ['data', memory],
    ['rss', memory],
    ['as', virtual.length === 0 ? undefined : Math.max(Math.min(...virtual), memory ?? 0)],
    ['fsize', bytes('file')],
    ['cpu', parseDuration(resource(message, 'pcput') ?? '')],
  ];
  return limits.flatMap(
    ([name, value]): Spec => (value === undefined ? [] : [['limits[]', `${RLIMIT[name]} ${value}`]]),
  );
}

function jobEnvironment(message: StartMessage, files: JobFiles, place: Place, shell: string): Pair[] {
  const walltime = parseDuration(resource(message, 'walltime') ?? '');
  return [
    ...place.environment,
    ...message.variables,
    ['HOME', message.home],
    ['LOGNAME', message.user],
    ['PBS_JOBNAME', message.name],
    ['PBS_JOBID', message.id],
    ['PBS_QUEUE', message.queue],
    ['SHELL', shell],
    ['USER', message.user],
    ['PBS_JOBCOOKIE', randomBytes(16).toString('hex').toUpperCase()],
    ['PBS_NODENUM', '0'],
    ['PBS_TASKNUM', '1'],
    ['PBS_MOMPORT', '15003'],
    ['PBS_NODEFILE', files.nodeFile],
    ['PBS_GPUFILE', `${files.nodeFile}gpu`],
    ['PBS_MICFILE', `${files.nodeFile}mic`],
    ['HOSTNAME', place.node],
    ...(walltime === undefined ? [] : ([['PBS_WALLTIME', String(walltime)]] satisfies Pair[])),
    ['PBS_NUM_NODES', String(message.nodes)],
    ['PBS_NUM_PPN', String(message.processorsPerNode)],
    ['PBS_VERSION', 'TORQUE-6.1-dev'],
    ['PBS_VNODENUM', '0'],
    ['PBS_NP', String(message.slots)],
    ['PBS_ENVIRONMENT', 'PBS_BATCH'],
    ['ENVIRONMENT', 'BATCH'],
  ];
}

export function epilogueSpec(
  message: StartMessage,
  files: JobFiles,
  place: Place,
  end: { session: number; used: Pair[]; exitStatus: number },
): Spec {
  const words = epilogueWords(message, files, end);
  return [
    ...common(message, files, place),
    ...words.map((value): Pair => ['hook_arg[]', value]),
    ...ownHook(message, 'epilogue'),
    ['hook[]', `user\t${join(place.paths.momPriv, 'epilogue.user')}`],
    ['hook[]', `root\t${join(place.paths.momPriv, 'epilogue')}`],
  ];
}

function epilogueWords(
  message: StartMessage,
  files: JobFiles,
  end: { session: number; used: Pair[]; exitStatus: number },
): string[] {
  const used = end.used.map(([name, value]) => `${name}=${value}`).join(',');
  const { id, user, group, name, resources, queue, account } = message;
  return [
    ...[id, user, group, name, String(end.session), resourceWords(resources), used, queue, account],
    ...[String(end.exitStatus), files.script],
  ];
}

/** Every host is this one: with `$usecp *:/ /` a mom copies within the node's own file systems. */
function stageSpec(pairs: readonly (readonly [from: string, to: string])[]): Spec {
  return pairs.map(([from, to]): Pair => ['stage[]', `${from}\t${to}`]);
}

/** Which spool file goes where: `path` of `host:path`. What is kept is where it belongs. */
export function deliverSpec(message: StartMessage, files: JobFiles, place: Place): Spec {
  const copies: Spec = [];
  const add = (from: string, kept: boolean, target: string, name: string): void => {
    if (kept || !existsSync(from)) return;
    copies.push(['copy[]', `${from}\t${target.replace(/^[^/]*:/, '')}\t${name}`]);
  };
  if (message.join !== 'eo') {
    add(files.out, message.keep.includes('o'), message.outputPath, message.defaultOutputName);
  }
  if (message.join !== 'oe') {
    add(files.err, message.keep.includes('e'), message.errorPath, message.defaultErrorName);
  }
  return [
    ...common(message, files, place),
    ...copies,
    ...stageSpec(message.stageOut.map(({ local, remote }) => [local, remote])),
  ];
}
