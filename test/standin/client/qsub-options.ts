// What qsub understands: its options, those in the script's #PBS lines, and the texts of its usage errors.
import { basename, isAbsolute, join } from 'node:path';
import type { Pair, SubmitRequest } from '../common/protocol.ts';
import { ClientExit } from './connection.ts';
import { parseExecutionTime, parseStageList } from './extras.ts';
import { parseOptions } from './options.ts';

const SPEC = 'a:A:b:c:C:d:D:e:fF:hIj:J:k:K:l:m:M:nN:o:p:P:q:r:S:t:T:u:v:Vw:W:xXz';

const USAGE = `usage: qsub [-a date_time] [-A account_string] [-b secs]
    [-c [ none | { enabled | periodic | shutdown |
    depth=<int> | dir=<path> | interval=<minutes>}... ]
    [-C directive_prefix] [-d path] [-D path]
    [-e path] [-h] [-I] [-j oe|eo|n] [-k {oe}] [-K <kill delay seconds>] 
    [-l resource_list] [-m n|{abe}] [-M user_list] [-N jobname] [-o path] 
    [-p priority] [-P proxy_user [-J <jobid]] [-q queue] [-r y|n] 
    [-S path] [-t number_to_submit] [-T type]  [-u user_list] [-w] path
    [-W additional_attributes] [-v variable_list] [-V ] [-x] [-X] [-z] [script]

`;

export interface QsubOptions {
  options: Map<string, string>;
  /** Resources by name; those of the command line win over those of directives. */
  resources: Pair[];
  extra: Map<string, string>;
  operands: string[];
}

function usage(message: string): never {
  throw new ClientExit(2, `${message}\n\n${USAGE}`);
}

function illegal(letter: string): never {
  return usage(`[qsub: illegal -${letter} value]`);
}

const CHECKS: Readonly<Record<string, RegExp>> = {
  N: /^[^\s]+$/,
  j: /^(oe|eo|n)$/,
  k: /^(n|o|e|oe|eo)$/,
  r: /^[yn]$/,
  m: /^(n|[abe]+)$/,
  p: /^[+-]?\d+$/,
  t: /^[\d,%-]+$/,
  K: /^\d+$/,
};

/** Reads one list of words (the command line or one directive's) into `into`; what is already there stays. */
export function readOptions(words: readonly string[], into: QsubOptions): void {
  const parsed = parseOptions(SPEC, words);
  if (parsed.invalid !== undefined) {
    const what = parsed.invalid.missingValue ? 'option requires an argument' : 'invalid option';
    usage(`qsub: ${what} -- '${parsed.invalid.letter}'\n[exiting]`);
  }
  const before = new Set(into.options.keys());
  const settled = new Set(into.resources.map(([name]) => name));
  for (const [letter, value] of parsed.options) {
    if (CHECKS[letter]?.test(value) === false) illegal(letter);
    if (letter === 'l') addResources(value, settled, into.resources);
    else if (letter === 'W') addExtra(value, into.extra);
    else if (!before.has(letter)) into.options.set(letter, value);
  }
  into.operands.push(...parsed.operands);
}

/** TORQUE takes one script, and says this of more. */
export function refuseSeveralScripts({ operands }: QsubOptions): void {
  if (operands.length > 1) usage('[index issues]');
}

function addResources(text: string, settled: ReadonlySet<string>, into: Pair[]): void {
  for (const item of text.split(',')) {
    const equals = item.indexOf('=');
    const name = (equals < 0 ? item : item.slice(0, equals)).trim();
    if (name === '') illegal('l');
    if (settled.has(name)) continue;
    const value = equals < 0 ? '' : item.slice(equals + 1);
    const present = into.find(([other]) => other === name);
    if (present) present[1] = value;
    else into.push([name, value]);
  }
}

function addExtra(text: string, into: Map<string, string>): void {
  for (const item of text.split(/,(?=[a-z_]+=)/)) {
    const match = /^\s*([a-z_]+)\s*=\s*(.*)$/.exec(item);
    if (match === null) illegal('W');
    const name = match?.[1] ?? '';
    if (!into.has(name)) into.set(name, match?.[2] ?? '');
  }
}

/** What TORQUE has and the stand-in has not. */
const ABSENT_OPTIONS: Readonly<Record<string, string>> = {
  I: 'interactive jobs',
};
const ABSENT_EXTRAS: Readonly<Record<string, string>> = {
  depend: 'dependencies (-W depend=)',
  interactive: 'interactive jobs',
};

/** Better no job than one that runs otherwise than TORQUE would run it. */
export function refuseAbsent({ options, extra }: QsubOptions): void {
  const absent =
    Object.entries(ABSENT_OPTIONS).find(([letter]) => options.has(letter)) ??
    Object.entries(ABSENT_EXTRAS).find(([name]) => extra.has(name));
  if (absent !== undefined) throw new ClientExit(1, `qsub: the stand-in has no ${absent[1]}\n`);
}

/** The words of the script's directives, up to its first line that is neither empty nor a comment. */
export function directiveWords(script: string, prefix: string): string[][] {
  const found: string[][] = [];
  for (const line of script.split('\n')) {
    if (line.startsWith(prefix)) found.push(splitWords(line.slice(prefix.length)));
    else if (line.trim() !== '' && !line.startsWith('#') && !line.startsWith(':')) break;
  }
  return found;
}

/** Splits a directive at blanks, with quotes; a word that begins with # starts a comment. */
export function splitWords(text: string): string[] {
  const words: string[] = [];
  const pattern = /\s*(#.*|(?:"[^"]*"|'[^']*'|[^\s"'])+)/gy;
  for (const match of text.matchAll(pattern)) {
    const word = match[1] ?? '';
    if (word.startsWith('#')) break;
    words.push(
      word.replace(/"([^"]*)"|'([^']*)'/g, (_, double?: string, single?: string) => double ?? single ?? ''),
    );
  }
  return words;
}

/** `A=1,B,C="x,y"`: a name without value takes it from the environment. */
export function parseVariables(text: string, environment: NodeJS.ProcessEnv): Pair[] {
  const pairs: Pair[] = [];
  for (const match of text.matchAll(/((?:"[^"]*"|'[^']*'|\\.|[^,"'\\])+)(,|$)/g)) {
    const item = (match[1] ?? '').replace(
      /"([^"]*)"|'([^']*)'/g,
      (_, a?: string, b?: string) => a ?? b ?? '',
    );
    const equals = item.indexOf('=');
    const name = equals < 0 ? item : item.slice(0, equals);
    const value = equals < 0 ? environment[name] : item.slice(equals + 1).replace(/\\(.)/g, '$1');
    if (name !== '' && value !== undefined) pairs.push([name, value]);
  }
  return pairs;
}

/** PBS_O_* as the server will show them, then what -v and -V ask for. */
export function variableList(
  options: ReadonlyMap<string, string>,
  environment: NodeJS.ProcessEnv,
  place: { workDir: string; host: string; server: string },
): Pair[] {
  const pairs: Pair[] = [];
  for (const name of ['HOME', 'LOGNAME', 'PATH', 'MAIL', 'SHELL', 'LANG', 'TZ']) {
    const value = environment[name];
    if (value !== undefined) pairs.push([`PBS_O_${name}`, value]);
  }
  pairs.push(['PBS_O_WORKDIR', place.workDir], ['PBS_O_HOST', place.host], ['PBS_O_SERVER', place.server]);
  const asked = new Map<string, string>();
  if (options.has('V')) {
    for (const [name, value] of Object.entries(environment)) {
      if (value !== undefined && name !== '_' && name !== 'TORQUE_STANDIN_HOME') asked.set(name, value);
    }
  }
  for (const [name, value] of parseVariables(options.get('v') ?? '', environment)) asked.set(name, value);
  return [...pairs, ...asked];
}

function hostPath(path: string | undefined, place: { workDir: string; host: string }): string | undefined {
  if (path === undefined) return undefined;
  const match = /^([\w.-]*):(.*)$/.exec(path);
  const host = match?.[1] || place.host;
  const file = match === null ? path : (match[2] ?? '');
  return `${host}:${isAbsolute(file) ? file : join(place.workDir, file)}`;
}

/** The request for the server. `words` are qsub's own arguments as typed. */
export function submitRequest(
  read: QsubOptions,
  words: readonly string[],
  scriptName: string | undefined,
  script: Buffer,
  place: { workDir: string; host: string; server: string },
): SubmitRequest {
  const { options, extra } = read;
  const umask = extra.get('umask');
  if (umask !== undefined && !/^[0-7]{1,4}$/.test(umask)) illegal('W');
  const time = options.get('a');
  const executionTime = time === undefined ? undefined : (parseExecutionTime(time) ?? illegal('a'));
  const staged = (name: string) => {
    const text = extra.get(name);
    return text === undefined ? [] : (parseStageList(text) ?? illegal('W'));
  };
  return {
    kind: 'submit',
    name: options.get('N') ?? (scriptName === undefined ? 'STDIN' : basename(scriptName)),
    queue: options.get('q')?.replace(/@.*$/, ''),
    resources: read.resources,
    variables: variableList(options, process.env, place),
    account: options.get('A'),
    outputPath: hostPath(options.get('o'), place),
    errorPath: hostPath(options.get('e'), place),
    join: options.get('j') ?? 'n',
    keep: options.get('k') ?? 'n',
    hold: options.has('h'),
    mailPoints: options.get('m') ?? 'a',
    mailUsers: options.get('M'),
    priority: Number(options.get('p') ?? '0'),
    rerunnable: options.get('r') !== 'n',
    shell: options.get('S'),
    scriptArguments: options.get('F'),
    umask,
    arrayRange: options.get('t'),
    group: extra.get('group_list'),
    initDir: options.get('d'),
    executionTime,
    stageIn: staged('stagein'),
    stageOut: staged('stageout'),
    submitArgs: words.join(' '),
    submitHost: place.host,
    workDir: place.workDir,
    script: script.toString('base64'),
  };
}
