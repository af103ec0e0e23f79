// The batch script of a grid job: TORQUE's directives, the guest request, and what runs inside the guest.
import { VmbatchError } from '../util/errors.ts';
import { shellQuote } from '../util/quote.ts';
import { renderTemplate } from '../util/template.ts';
import type { ArcConfiguration } from './configuration.ts';
import type { Grami } from './grami.ts';
import { decodeBytes, encodeBytes, showBytes } from './text.ts';

/** What a site's configuration adds to a job. */
export type ScriptConfiguration = Pick<ArcConfiguration, 'defaultQueue' | 'image' | 'gnuTime' | 'benchmark'>;

/** Variables that a shell sets, refuses or acts upon when they are assigned; the executable still gets them,
 * but not through the shell's `export`. HOME is not among them: as in ARC it is the session directory. */
const SHELL_OWN = new Set(
  (
    '_ BASHOPTS BASH_ARGC BASH_ARGV BASH_ARGV0 BASH_CMDS BASH_COMMAND BASH_LINENO BASH_SOURCE BASH_VERSINFO BASHPID ' +
    'COMP_WORDBREAKS DIRSTACK EPOCHREALTIME EPOCHSECONDS EUID FUNCNAME GROUPS HISTCMD IFS LINENO OLDPWD OPTERR ' +
    'OPTIND PPID PS1 PS2 PS4 PWD RANDOM SECONDS SHELLOPTS SHLVL SRANDOM UID'
  ).split(' '),
);

/** The script as a byte string (latin1): write it as such, and every argument and variable reaches the executable
 * byte for byte. Runs under any POSIX shell (dash, bash, busybox) in the guest, as the user.
 *
 * Mirrors ARC's pbs backend: `.comment` as the job's output, name rule, `cput`, `walltime` from it if alone, `mem`
 * in total. Unlike it, slots without `countpernode` are asked for on one node, since a guest lives on one.
 * @throws VmbatchError `job` for what cannot be handed on, `site` for paths and names that TORQUE cannot take */
export function buildBatchScript(grami: Grami, configuration: ScriptConfiguration): string {
  const [executable = '', ...args] = grami.args;
  const queue = grami.queue ?? configuration.defaultQueue;
  // Relative names are never looked up in PATH; A-REX itself writes `./name`.
  const command = executable.includes('/') ? executable : `./${executable}`;
  const exported = grami.environment.filter(({ name }) => isExportable(name));
  const passed = grami.environment.filter((variable) => !exported.includes(variable));
  if (passed.length > 0 && command.includes('='))
    throw new VmbatchError({
      fault: 'job',
      code: 'environment-refused',
      message: `the executable ${showBytes(command)} has a "=" in its name and so cannot get the variable ${showBytes(passed[0]?.name ?? '')}`,
    });
  if (!grami.environment.some(({ name }) => name === 'GRID_GLOBAL_JOBID'))
    exported.push({ name: 'GRID_GLOBAL_JOBID', value: grami.gridId });
  return renderTemplate(
    'batch-script.sh',
    {
      gridId: grami.gridId,
      directives: [...torqueDirectives(grami, queue), guestRequest(grami, configuration)],
      sessionDirectory: grami.sessionDirectory,
      diag: `${grami.sessionDirectory}.diag`,
      exported: exported.map(({ name, value }) => `${name}=${value}`),
      passed: passed.map(({ name, value }) => `${name}=${value}`),
      command,
      args,
      redirections: redirections(grami),
      folders: outputFolders(grami),
      gnuTime: encodeBytes(configuration.gnuTime),
      timeFormat: TIME_FORMAT,
      processors: grami.count,
      instance: configuration.image === undefined ? 'vmbatch' : `vmbatch:${configuration.image}`,
      benchmark: configuration.benchmark(queue),
    },
    'sh',
  );
}

/** Whether a shell can export the variable and the script does not use it itself. */
const isExportable = (name: string) =>
  /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !SHELL_OWN.has(name) && !name.startsWith('vmbatch_');

/** GNU time's format for `.diag`: the keys and units that A-REX's accounting and information system read. */
const TIME_FORMAT = [
  'WallTime=%es',
  'UserTime=%Us',
  'KernelTime=%Ss',
  'CPUUsage=%P',
  'MaxResidentMemory=%MkB',
  'AverageResidentMemory=%tkB',
  'AverageTotalMemory=%KkB',
].join('\\n');

/** The `#PBS` lines, without that word. */
function torqueDirectives(grami: Grami, queue: string | undefined): string[] {
  const { slots, nodes } = slotsOf(grami);
  // As in ARC: a limit on CPU time alone is one on wall-clock time too.
  const wallTime = grami.wallTime ?? grami.cpuTime;
  return [
    `#PBS -N ${torqueJobName(grami.jobName)}`,
    ...(queue === undefined ? [] : [`#PBS -q ${queueName(queue)}`]),
    '#PBS -r n',
    '#PBS -m n',
    `#PBS -e ${directivePath(`${grami.sessionDirectory}.comment`)}`,
    '#PBS -j eo',
    `#PBS -l nodes=${nodes}:ppn=${slots}`,
    ...(grami.cpuTime === undefined ? [] : [`#PBS -l cput=${hours(grami.cpuTime)}`]),
    ...(wallTime === undefined ? [] : [`#PBS -l walltime=${hours(wallTime)}`]),
    ...(grami.memory === undefined ? [] : [`#PBS -l mem=${grami.memory * grami.count}mb`]),
  ];
}

/** The `#VMBATCH` line: image if the site names one, virtual CPUs and memory of the guest from its slots. */
function guestRequest(grami: Grami, { image }: ScriptConfiguration): string {
  const { slots } = slotsOf(grami);
  return [
    '#VMBATCH',
    ...(image === undefined ? [] : [`image=${image}`]),
    `vcpus=${slots}`,
    ...(grami.memory === undefined || grami.memory === 0 ? [] : [`memory=${grami.memory * slots}MiB`]),
  ].join(' ');
}

/** Slots on each node, and nodes. */
function slotsOf(grami: Grami): { slots: number; nodes: number } {
  if (grami.count === 1 || grami.countPerNode === undefined) return { slots: grami.count, nodes: 1 };
  return { slots: grami.countPerNode, nodes: grami.nodes ?? Math.ceil(grami.count / grami.countPerNode) };
}

/** The rule of ARC's pbs backend: a letter first, letters and digits only, at most 15. */
export function torqueJobName(jobName: string | undefined): string {
  const name = decodeBytes(jobName ?? '').replaceAll(/[^A-Za-z0-9]/gu, '_');
  if (name === '') return 'vmbatch';
  return (/^[A-Za-z]/.test(name) ? name : `N${name}`).slice(0, 15);
}

function queueName(queue: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(queue)) return queue;
  throw new VmbatchError({
    fault: 'site',
    code: 'queue-invalid',
    message: `queue: found ${showBytes(queue)}, must be a queue's name`,
  });
}

/** A path in a directive. TORQUE reads `host:path`, and knows quotes but no way to escape one. */
function directivePath(path: string): string {
  if (/^[A-Za-z0-9_./+@%=,~-]+$/.test(path)) return path;
  if (!/['"\\:\n\r\t\0]/.test(path)) return `'${path}'`;
  throw new VmbatchError({
    fault: 'site',
    code: 'path-refused',
    message: `TORQUE cannot be given the path ${showBytes(path)}`,
    hint: 'use a session directory without quotes, backslashes, colons and tabs in its name',
  });
}

function hours(seconds: number): string {
  const two = (number: number) => String(number).padStart(2, '0');
  return `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

/** Without a name, output goes where the script's own does: to `.comment`. */
function redirections({ stdin, stdout, stderr }: Grami): string {
  return [
    `< ${shellQuote(stdin ?? '/dev/null')}`,
    ...(stdout === undefined ? [] : [`> ${shellQuote(stdout)}`]),
    ...(stderr === undefined ? [] : [stderr === stdout ? '2>&1' : `2> ${shellQuote(stderr)}`]),
  ].join(' ');
}

/** Folders of stdout and stderr below the session directory: the job may name ones that do not exist yet. */
function outputFolders({ stdout, stderr, sessionDirectory }: Grami): string[] {
  const folders = [stdout, stderr].flatMap((path) => {
    const folder = path?.slice(0, path.lastIndexOf('/'));
    return folder?.startsWith(`${sessionDirectory}/`) ? [folder] : [];
  });
  return [...new Set(folders)];
}
