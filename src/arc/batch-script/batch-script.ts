// The batch script of a grid job: TORQUE's directives, the guest request, and what runs inside the guest.
import { FAULT_OUTCOMES, VmbatchError } from '../../util/errors.ts';
import { shellQuote } from '../../util/quote.ts';
import { renderTemplate } from '../../util/templates/template.ts';
import type { RuntimeVariables } from '../arc-shell.ts';
import {
  type ArcConfiguration,
  initialVariables,
  type QueueConfiguration,
} from '../configuration/configuration.ts';
import type { Grami } from '../grami.ts';
import { encodeBytes, showBytes } from '../text.ts';
import { imageOf, type Staging, scriptHead, slotsOf } from './directives.ts';
import type { RuntimeEnvironment } from './runtime-environments.ts';
import type { Complaint } from './stage-zero.ts';

/** What a site's configuration adds to a job. */
export type ScriptConfiguration = Pick<
  ArcConfiguration,
  | 'defaultQueue'
  | 'queue'
  | 'hostname'
  | 'sharedFilesystem'
  | 'scratchDirectory'
  | 'sharedScratch'
  | 'runtimeDirectory'
  | 'moveTool'
  | 'nodeNameCommand'
  | 'gnuTime'
>;

/** Variables that a shell sets, refuses or acts upon when they are assigned; the executable still gets them,
 * but not through the shell's `export`. HOME is not among them: as in ARC it is the session directory. */
const SHELL_OWN = new Set(
  (
    '_ BASHOPTS BASHPID BASH_ALIASES BASH_ARGC BASH_ARGV BASH_ARGV0 BASH_CMDS BASH_COMMAND BASH_COMPAT BASH_LINENO ' +
    'BASH_SOURCE BASH_SUBSHELL BASH_VERSINFO BASH_XTRACEFD COMP_WORDBREAKS DIRSTACK EPOCHREALTIME EPOCHSECONDS EUID FUNCNAME GROUPS HISTCMD IFS LINENO OLDPWD OPTERR ' +
    'OPTIND PIPESTATUS PPID PS1 PS2 PS4 PWD RANDOM SECONDS SHELLOPTS SHLVL SRANDOM UID'
  ).split(' '),
);

/** The script as a byte string (latin1): write it as such, and every argument and variable reaches the
 * executable byte for byte, but HOME, which is the session directory. Runs under any POSIX shell (dash, bash,
 * busybox) in the guest, as the user; with runtime environments, which are written for it, under bash where
 * the guest has that.
 *
 * Mirrors what ARC's pbs backend does in its job script: the user's environment, stage 1 of the runtime
 * environments, checks of the executable, GNU time or accounting cgroups, stage 2, `usedscratch`, scratch
 * directories and what stays in them, `.diag`. Unlike there, the job ends with a whole `.diag` and its files
 * in the session directory whatever fails.
 * @param runtimes in the order in which they run
 * @param variables as stage 0 left them; what is not among them is as `initialVariables` has it
 * @param complaints of stage 0, which the scan tells the CE's administrator when the job is over
 * @throws VmbatchError `job` for what cannot be handed on or is not allowed, `site` for paths and names that
 * TORQUE cannot take */
export function buildBatchScript(
  grami: Grami,
  configuration: ScriptConfiguration,
  runtimes: readonly RuntimeEnvironment[] = [],
  variables: RuntimeVariables = new Map(),
  complaints: readonly Complaint[] = [],
): string {
  const queue = grami.queue ?? configuration.defaultQueue;
  const limits = configuration.queue(queue);
  const all = new Map([...initialVariables(configuration), ...variables]);
  const variable = (name: string): string | undefined => all.get(name) || undefined;
  const scratchText = variable('RUNTIME_LOCAL_SCRATCH_DIR');
  const staging =
    variable('RUNTIME_NODE_SEES_FRONTEND') === undefined
      ? stagingOf(grami, scratchText, configuration)
      : undefined;
  const { slots, nodes } = slotsOf(grami);
  // Another node's guest would not find the files: as in ARC, unless an RTE says that it will.
  const mayMove = nodes === 1 || variable('RUNTIME_ENABLE_MULTICORE_SCRATCH') !== undefined;
  const scratch =
    staging === undefined && mayMove && scratchText !== undefined
      ? { directory: scratchExpression(scratchText), ...scratchOptions(grami, variable) }
      : undefined;

  const directory = staging?.directory ?? grami.sessionDirectory;
  const image = imageOf(grami, limits);
  const scripted = runtimes.flatMap((runtime) => (runtime.script === undefined ? [] : [runtime]));
  const { command, exported, passed } = jobCommand(grami);
  const locate = (path: string) => locatePath(path, grami.sessionDirectory, directory, scratch !== undefined);
  return renderTemplate(
    'batch-script.sh',
    {
      gridId: grami.gridId,
      directives: scriptHead(grami, queue, limits, staging, configuration.hostname),
      staged: staging !== undefined,
      directory,
      diag: `${directory}.diag`,
      parts: {
        scratch:
          scratch === undefined
            ? undefined
            : renderTemplate(
                'batch-script-scratch.sh',
                {
                  ...scratch,
                  gridId: grami.gridId,
                  session: grami.sessionDirectory,
                  // Only those: what our own programs here get is not the job's to say.
                  exported: exported
                    .filter(({ name }) => variablesOf(scratch.directory).includes(name))
                    .map(({ name, value }) => `${name}=${value}`),
                },
                'sh',
              ),
        outputs:
          scratch === undefined && staging === undefined
            ? undefined
            : renderTemplate('batch-script-outputs.sh', outputLists(grami.outputFiles), 'sh'),
      },
      nodeFaultExit: FAULT_OUTCOMES.node.starterExit,
      frontEndSees: scratch?.frontEndSees ?? '',
      runtimes: scripted.map(({ name, options, script, parameters }) => ({
        name,
        options,
        text: shellText(name, `${parameters ?? ''}\n${script ?? ''}\n`),
      })),
      complaint: complaints
        .map(({ name, said }) => (name === '' ? '' : `${name}: `) + encodeBytes(said))
        .join('; '),
      runtimeNames: runtimes.map(({ name }) => `${name};`).join(''),
      exported: exported.map(({ name, value }) => `${name}=${value}`),
      passed: passed.map(({ name, value }) => `${name}=${value}`),
      command,
      args: grami.args.slice(1),
      commandLine: grami.commandLine,
      notices: notices(grami, limits),
      streams: {
        stdin: locate(grami.stdin ?? '/dev/null'),
        stdout: grami.stdout === undefined ? undefined : locate(grami.stdout),
        stderr: grami.stderr === undefined ? undefined : locate(grami.stderr),
        joined: grami.stdout !== undefined && grami.stderr === grami.stdout,
      },
      folders: outputFolders(grami).map((folder) => `${directory}/${folder}`),
      gnuTime: variable('GNU_TIME') ?? '/usr/bin/time',
      timeFormat: TIME_FORMAT,
      nodeNameCommand: variable('NODENAME') ?? 'uname -n',
      processors: grami.count,
      nodeCount: grami.count > 1 ? grami.nodes : undefined,
      // KiB for a shell's ulimit.
      virtualMemory: grami.virtualMemory ? grami.virtualMemory * slots * 1024 : undefined,
      cpuTime: grami.cpuTime || undefined,
      disk: grami.disk === 0 ? undefined : grami.disk,
      instance: variable('ACCOUNTING_WN_INSTANCE') ?? (image === undefined ? 'vmbatch' : `vmbatch:${image}`),
      benchmark: grami.benchmark ?? variable('ACCOUNTING_BENCHMARK') ?? encodeBytes(limits.benchmark),
    },
    'sh',
  );
}

/** What the job asks for and does not get, for its `.comment`. */
function notices(grami: Grami, limits: QueueConfiguration): string[] {
  if (!grami.exclusiveNode || limits.nodeMemory !== undefined) return [];
  return ['the job asked for a node of its own and may share one: its queue has no nodememory in arc.conf'];
}

/** The executable with what it gets: variables that a shell exports, and others that `env` passes. */
function jobCommand(grami: Grami) {
  const [executable = ''] = grami.args;
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
  return { command, exported, passed };
}

/** Whether a shell can export the variable and the script does not use it itself. */
const isExportable = (name: string) =>
  /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !SHELL_OWN.has(name) && !name.startsWith('vmbatch_');

/** GNU time's format for `.diag`: the keys and units of ARC's, which A-REX's accounting and information
 * system read. The latter takes `AverageTotalMemory` for the memory that the job has used, and ARC's own `%K`
 * is 0 on every Linux: it gets the largest resident set that one of the job's processes had. */
const TIME_FORMAT = [
  ...['WallTime=%es', 'KernelTime=%Ss', 'UserTime=%Us', 'CPUUsage=%P'],
  ...['MaxResidentMemory=%MkB', 'AverageResidentMemory=%tkB', 'AverageTotalMemory=%MkB'],
  ...['AverageUnsharedMemory=%DkB', 'AverageUnsharedStack=%pkB', 'AverageSharedMemory=%XkB'],
  ...['PageSize=%ZB', 'MajorPageFaults=%F', 'MinorPageFaults=%R', 'Swaps=%W', 'ForcedSwitches=%c'],
  ...['WaitSwitches=%w', 'Inputs=%I', 'Outputs=%O', 'SocketReceived=%r', 'SocketSent=%s', 'Signals=%k'],
].join('\\n');

/** @throws VmbatchError `site`: as in ARC, a job whose node does not see the session directory needs another
 * place */
function stagingOf(grami: Grami, scratch: string | undefined, { hostname }: ScriptConfiguration): Staging {
  const folder = scratch?.replace(/(?<=.)\/+$/, '');
  if (folder !== undefined && /^\/[A-Za-z0-9_./+%=~-]*$/.test(folder))
    return { folder, directory: `${folder === '/' ? '' : folder}/${grami.gridId}`, host: hostname };
  throw new VmbatchError({
    fault: 'site',
    code: 'scratch-missing',
    message:
      scratch === undefined
        ? 'guests do not see the session directory ([arex] shared_filesystem=no), and there is no [arex] scratchdir for their jobs'
        : `jobs are staged ([arex] shared_filesystem=no), and the scratch directory ${showBytes(scratch)} is no plain absolute path`,
    hint: 'set [arex] scratchdir to a directory that nodes and guests have, or shared_filesystem=yes',
  });
}

/** What the name of the scratch directory depends on. */
const variablesOf = (expression: string) => [
  'RUNTIME_LOCAL_SCRATCH_DIR',
  ...[...expression.matchAll(/\$\{([A-Za-z_][A-Za-z0-9_]*)-\}/g)].map(([, name]) => name),
];

/** The scratch directory as one shell word in which only variables are expanded, in the guest: `/local` or
 * `${WORKDIR}/x`.
 * @throws VmbatchError `site` for anything else that a shell would act upon */
function scratchExpression(text: string): string {
  const parts = text.split(/(\$[A-Za-z_][A-Za-z0-9_]*|\$\{[A-Za-z_][A-Za-z0-9_]*\})/);
  return parts
    .map((part, index) => {
      if (index % 2 === 1) return `"\${${part.replace(/[^A-Za-z0-9_]/g, '')}-}"`;
      if (part === '') return '';
      if (!/[$`]/.test(part)) return shellQuote(part);
      throw new VmbatchError({
        fault: 'site',
        code: 'scratch-refused',
        message: `the scratch directory is ${showBytes(text)}; allowed: a path with variables such as \${WORKDIR} in it, nothing else that a shell expands`,
        hint: '[arex] scratchdir or a runtime environment sets it',
      });
    })
    .join('');
}

function scratchOptions(grami: Grami, variable: (name: string) => string | undefined) {
  const below = [grami.stdout, grami.stderr].flatMap((path) =>
    path?.startsWith(`${grami.sessionDirectory}/`) ? [path.slice(grami.sessionDirectory.length + 1)] : [],
  );
  return {
    moveTool: (variable('RUNTIME_LOCAL_SCRATCH_MOVE_TOOL') ?? 'mv').split(/[ \t]+/).filter(Boolean),
    frontEndSees: variable('RUNTIME_FRONTEND_SEES_NODE'),
    streams: [...new Set(below)],
  };
}

/** A path of the session directory as a shell word, where the job runs. */
function locatePath(path: string, session: string, directory: string, moves: boolean): string {
  if (!path.startsWith(`${session}/`)) return shellQuote(path);
  const rest = path.slice(session.length);
  return moves ? `"$vmbatch_directory"${shellQuote(rest)}` : shellQuote(directory + rest);
}

/** What stays in a scratch directory: names, and files that hold such names (`@name`). */
function outputLists(outputFiles: readonly string[]): { names: string[]; lists: string[] } {
  const files = [...new Set(outputFiles.map((file) => file.replace(/^\/+/, '')))];
  return {
    names: files.filter((file) => !file.startsWith('@')),
    lists: files.filter((file) => file.startsWith('@')).map((file) => file.slice(1)),
  };
}

function shellText(runtime: string, text: string): string {
  if (!text.includes('\0')) return text;
  throw new VmbatchError({
    fault: 'site',
    code: 'runtime-environment-invalid',
    message: `the runtime environment ${showBytes(runtime)} is no shell text: found a NUL byte`,
  });
}

/** Folders of stdout and stderr, relative to the session directory: the job may name ones that do not exist
 * yet. */
function outputFolders({ stdout, stderr, sessionDirectory }: Grami): string[] {
  const folders = [stdout, stderr].flatMap((path) => {
    const folder = path?.slice(0, path.lastIndexOf('/'));
    return folder?.startsWith(`${sessionDirectory}/`) ? [folder.slice(sessionDirectory.length + 1)] : [];
  });
  return [...new Set(folders)];
}
