// The grami file: what A-REX tells a backend about one job, typed. Never given to a shell.
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { errnoOf, VmbatchError } from '../util/errors.ts';
import { readForeignFile, writeAll } from '../util/files/files.ts';
import { type Assignment, parseAssignments } from './assignments.ts';
import { showBytes } from './text.ts';

/** One job as A-REX describes it. All strings are byte strings (latin1: one character a byte), so that
 * whatever the user wrote arrives unchanged in the batch script; `decodeBytes` makes text of them. */
export interface Grami {
  /** The file, for error messages. */
  file: string;
  /** `joboption_gridid`. */
  gridId: string;
  /** `joboption_directory`, the session directory. */
  sessionDirectory: string;
  /** `joboption_controldir`. */
  controlDirectory: string;
  /** `joboption_arg_N`: the executable and its arguments; empty ones are kept. */
  args: string[];
  /** `joboption_args`, if a runtime environment's stage 0 set it: a line of shell to run in place of `args`,
   * as ARC's ENV/SINGULARITY does to put its program in front. Undefined: `args` are the command. */
  commandLine: string | undefined;
  /** `joboption_env_N`: the user's, then `GRID_GLOBAL_*`. */
  environment: { name: string; value: string }[];
  /** May be relative to the session directory. Undefined: none. */
  stdin: string | undefined;
  /** Equal to `stderr` if joined. Undefined: none. */
  stdout: string | undefined;
  stderr: string | undefined;
  jobName: string | undefined;
  queue: string | undefined;
  /** Total CPU time in seconds. */
  cpuTime: number | undefined;
  /** Seconds. */
  wallTime: number | undefined;
  /** MB for each slot. */
  memory: number | undefined;
  /** MB for each slot. */
  virtualMemory: number | undefined;
  /** MB. */
  disk: number | undefined;
  /** Slots; 1 if not given. */
  count: number;
  /** Slots on each node; undefined if the job does not say. */
  countPerNode: number | undefined;
  nodes: number | undefined;
  exclusiveNode: boolean;
  /** 0 to 100. */
  priority: number | undefined;
  startTime: string | undefined;
  /** `joboption_arg_code`: the exit code that is a success. */
  successCode: number;
  runtimes: { name: string; options: string[] }[];
  /** `joboption_nodeproperty_N`: set by runtime environments. */
  nodeProperties: string[];
  /** `joboption_rsl_project`: TORQUE's account. */
  project: string | undefined;
  /** `joboption_benchmark`: set by runtime environments, else the site's. */
  benchmark: string | undefined;
  /** `joboption_vmbatch_image` and `joboption_vmbatch_repositories`: what ENV/VMBATCH asks for. */
  image: string | undefined;
  repositories: string | undefined;
  inputFiles: string[];
  outputFiles: string[];
  /** The first `joboption_jobid`, as A-REX takes it. */
  jobId: string | undefined;
}

const MANDATORY = ['joboption_directory', 'joboption_controldir', 'joboption_gridid', 'joboption_arg_0'];

/** Larger than any real one, smaller than what would hurt. Bytes. */
const GRAMI_MAX_BYTES = 8 * 1024 * 1024;

/** Reads a grami file.
 * @throws VmbatchError `site` if it is missing, not a regular file, malformed or lacks a mandatory key; `job`
 * for values that no batch job can have */
export function loadGrami(file: string): Grami {
  return parseGrami(readGramiFile(file), file);
}

/** The same together with all assignments of the file, for a shell that is to have them as variables: byte
 * strings, the last of equal keys. */
export function loadGramiAndValues(file: string): { grami: Grami; values: Map<string, string> } {
  const text = readGramiFile(file);
  const assignments = parseAssignments(text, file);
  const values = new Map(assignments.map(({ key, value }) => [key, value]));
  return { grami: gramiOf(assignments, file), values };
}

/** The first `joboption_jobid` of a grami file, for cancel, which needs nothing else of it.
 * @throws VmbatchError `site` if the file is missing or malformed */
export function loadJobId(file: string): string | undefined {
  return jobIdOf(parseAssignments(readGramiFile(file), file));
}

function readGramiFile(file: string): string {
  const bytes = readForeignFile(file, { maxBytes: GRAMI_MAX_BYTES }, 'site');
  if (bytes === undefined)
    throw new VmbatchError({
      fault: 'site',
      code: 'grami-missing',
      message: `${file}: there is no such grami file`,
      hint: 'A-REX calls with: --config CONF CONTROLDIR/job.ID.grami',
    });
  return bytes.toString('latin1');
}

/** Adds `joboption_jobid=ID` in one write, which is what makes the submission count for A-REX.
 * @param jobId as qsub printed it
 * @throws VmbatchError `site` if the file cannot be written */
export function appendJobId(file: string, jobId: string): void {
  try {
    const fd = openSync(file, constants.O_RDWR | constants.O_APPEND | constants.O_NOFOLLOW);
    try {
      const last = Buffer.alloc(1);
      const { size } = fstatSync(fd);
      if (size > 0) readSync(fd, last, 0, 1, size - 1);
      const newline = size > 0 && last[0] !== 0x0a ? '\n' : '';
      writeAll(fd, Buffer.from(`${newline}joboption_jobid=${jobId}\n`, 'latin1'));
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw new VmbatchError({
      fault: 'site',
      code: 'grami-unwritable',
      message: `${file}: joboption_jobid=${jobId} could not be added (${errnoOf(error) ?? 'unknown error'})`,
      cause: error,
    });
  }
}

/** @param text the file's bytes as latin1
 * @throws VmbatchError as `loadGrami` */
export function parseGrami(text: string, file: string): Grami {
  return gramiOf(parseAssignments(text, file), file);
}

function gramiOf(assignments: Assignment[], file: string): Grami {
  // A file that is sourced gives the last of equal keys.
  const values = new Map(assignments.map((assignment) => [assignment.key, assignment]));
  return typedGrami(values, { file, origin: file, holes: 'refuse', jobId: jobIdOf(assignments) });
}

/** The same checks for values that stage 0 of the runtime environments may have changed. A list ends at its
 * first index that is not set, as in ARC: a runtime environment that takes one away means that.
 * @param values `joboption_*`, byte strings
 * @param file the grami file that they come from
 * @throws VmbatchError as `loadGrami`; its message says that runtime environments changed something */
export function parseGramiValues(values: ReadonlyMap<string, string>, file: string): Grami {
  return typedGrami(new Map([...values].map(([key, value]) => [key, { key, value, line: undefined }])), {
    file,
    origin: `${file}, after stage 0 of the runtime environments`,
    holes: 'end',
    jobId: values.get('joboption_jobid') || undefined,
  });
}

/** An assignment, of which the line is not known if it comes from a shell. */
type Value = Omit<Assignment, 'line'> & { line: number | undefined };

interface Source {
  file: string;
  /** For error messages. */
  origin: string;
  /** What a list with a hole means. */
  holes: 'refuse' | 'end';
  jobId: string | undefined;
}

function typedGrami(values: Map<string, Value>, source: Source): Grami {
  const { file, origin } = source;
  const missing = MANDATORY.filter((key) => (values.get(key)?.value ?? '') === '');
  if (missing.length > 0)
    throw new VmbatchError({
      fault: 'site',
      code: 'grami-incomplete',
      message: `${origin}: ${missing.join(', ')} missing or empty`,
    });

  const text_ = (key: string): string | undefined => {
    const value = values.get(`joboption_${key}`)?.value;
    return value === '' ? undefined : value;
  };
  const number = (key: string): number | undefined => wholeNumber(values.get(`joboption_${key}`), origin);
  const path = (key: string): string => absolutePath(values.get(`joboption_${key}`), origin);
  const gridId = text_('gridid') ?? '';
  // It becomes part of paths, of a comment in the script and of gm-kick's arguments.
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(gridId))
    throw refuse(origin, values.get('joboption_gridid'), 'letters and digits');
  return {
    file,
    gridId,
    sessionDirectory: path('directory'),
    controlDirectory: path('controldir'),
    args: list(values, 'joboption_arg_', source).map(({ value }) => value),
    commandLine: text_('args'),
    environment: list(values, 'joboption_env_', source).map((assignment) => variable(assignment, origin)),
    stdin: text_('stdin'),
    stdout: text_('stdout'),
    stderr: text_('stderr'),
    jobName: text_('jobname'),
    queue: text_('queue'),
    cpuTime: number('cputime'),
    wallTime: number('walltime'),
    memory: number('memory'),
    virtualMemory: number('virtualmemory'),
    disk: number('disk'),
    count: Math.max(1, number('count') ?? 1),
    countPerNode: positive(number('countpernode')),
    nodes: positive(number('numnodes')),
    exclusiveNode: text_('exclusivenode') === 'true',
    priority: number('priority'),
    startTime: text_('starttime'),
    successCode: number('arg_code') ?? 0,
    runtimes: list(values, 'joboption_runtime_', source).map(({ key, value }) => ({
      name: value,
      options: list(values, `${key}_`, source, 1).map((option) => option.value),
    })),
    nodeProperties: list(values, 'joboption_nodeproperty_', source).map(({ value }) => value),
    project: text_('rsl_project'),
    benchmark: text_('benchmark'),
    image: text_('vmbatch_image'),
    repositories: text_('vmbatch_repositories'),
    inputFiles: list(values, 'joboption_inputfile_', source).map(({ value }) => value),
    outputFiles: list(values, 'joboption_outputfile_', source).map(({ value }) => value),
    jobId: source.jobId,
  };
}

function jobIdOf(assignments: Assignment[]): string | undefined {
  const value = assignments.find(({ key }) => key === 'joboption_jobid')?.value;
  return value === '' ? undefined : value;
}

/** The values of `PREFIX0`, `PREFIX1`, ...; a hole would silently drop what follows it, so it is refused. */
function list(values: Map<string, Value>, prefix: string, { origin, holes }: Source, first = 0): Value[] {
  const found: Value[] = [];
  for (let index = first; ; index++) {
    const assignment = values.get(`${prefix}${index}`);
    if (assignment === undefined) break;
    found.push(assignment);
  }
  if (holes === 'end') return found;
  const next = first + found.length;
  for (const { key, line } of values.values())
    if (
      key.startsWith(prefix) &&
      /^[0-9]+$/.test(key.slice(prefix.length)) &&
      Number(key.slice(prefix.length)) > next
    )
      throw new VmbatchError({
        fault: 'site',
        code: 'grami-malformed',
        message: `${origin}:${line}: ${key} is there, but ${prefix}${next} is not`,
      });
  return found;
}

function variable({ key, value, line }: Value, origin: string): { name: string; value: string } {
  const equals = value.indexOf('=');
  if (equals < 1) throw refuse(origin, { key, value, line }, 'NAME=VALUE');
  return { name: value.slice(0, equals), value: value.slice(equals + 1) };
}

function wholeNumber(assignment: Value | undefined, origin: string): number | undefined {
  if (assignment === undefined || assignment.value === '') return undefined;
  // countpernode and numnodes are -1 for "not given" in some versions.
  if (!/^-?[0-9]{1,15}$/.test(assignment.value)) throw refuse(origin, assignment, 'a whole number or empty');
  return Math.max(0, Number(assignment.value));
}

const positive = (number: number | undefined) => (number === undefined || number < 1 ? undefined : number);

function absolutePath(assignment: Value | undefined, origin: string): string {
  const path = assignment?.value ?? '';
  if (!path.startsWith('/') || /[\n\r]/.test(path))
    throw refuse(origin, assignment, 'an absolute path on one line');
  return path.length > 1 ? path.replace(/\/+$/, '') : path;
}

const refuse = (origin: string, assignment: Value | undefined, allowed: string) =>
  new VmbatchError({
    fault: 'site',
    code: 'grami-malformed',
    message: `${origin}:${assignment?.line === undefined ? '' : `${assignment.line}:`} ${assignment?.key ?? 'key'}: found ${showBytes(assignment?.value ?? '')}, must be ${allowed}`,
  });
