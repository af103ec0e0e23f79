// Runtime environments (RTEs): what a job asks for and what the site adds, with the shell text that belongs
// to each.
import { type Dirent, existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import { readForeignFile } from '../../util/files/files.ts';
import { shellQuote } from '../../util/quote.ts';
import type { Grami } from '../grami.ts';
import { decodeBytes, encodeBytes, showBytes } from '../text.ts';

/** One runtime environment of a job, in the order in which they run. Byte strings (latin1). */
export interface RuntimeEnvironment {
  /** Such as `ENV/PROXY`. */
  name: string;
  /** Passed to the script after the stage's number. */
  options: readonly string[];
  /** The script; undefined if it is empty: then it counts, and there is nothing to run. */
  script: string | undefined;
  /** `rte/params/NAME` and what ARC adds for one of its community: shell assignments that come before the
   * script; undefined if there are none. */
  parameters: string | undefined;
}

/** Larger than any real one: they become part of the batch script, which TORQUE keeps for each job. Bytes. */
const SCRIPT_MAX_BYTES = 1024 * 1024;
const PARAMETERS_MAX_BYTES = 64 * 1024;

/** A job that asks for more has made a mistake. */
const MAX_RUNTIMES = 100;

/** Names of folders nest only so deep that a loop of links ends. */
const MAX_DEPTH = 8;

/** What the job asks for in its order, then the site's defaults that are not among it, by name. As in ARC a
 * name is looked up in `rte/enabled`, then in `rte/default`; `arcctl rte` makes links there.
 * @param requested `runtimes` of the grami
 * @param controlDirectory `joboption_controldir`, a byte string
 * @throws VmbatchError `job` for a name that is not one or not there, `site` for a file that cannot be
 * used */
export function resolveRuntimes(
  requested: Grami['runtimes'],
  controlDirectory: string,
): RuntimeEnvironment[] {
  if (requested.length > MAX_RUNTIMES)
    throw new VmbatchError({
      fault: 'job',
      code: 'runtime-environments-many',
      message: `the job asks for ${requested.length} runtime environments; at most ${MAX_RUNTIMES} are taken`,
    });
  const folder = join(decodeBytes(controlDirectory), 'rte');
  const names = new Set(requested.map(({ name }) => name));
  const defaults = listRuntimes(join(folder, 'default')).filter((name) => !names.has(name));
  return [...requested, ...defaults.map((name) => ({ name, options: [] }))].map(({ name, options }) => {
    if (!isRuntimeName(name)) throw missing(name, 'its name is not one of a runtime environment');
    const script =
      readText(join(folder, 'enabled', decodeBytes(name)), SCRIPT_MAX_BYTES, name) ??
      readText(join(folder, 'default', decodeBytes(name)), SCRIPT_MAX_BYTES, name);
    if (script === undefined)
      throw missing(name, 'it is missing, its link leads nowhere, or it is not enabled');
    const parametersFile = join(folder, 'params', decodeBytes(name));
    const parameters = readText(parametersFile, PARAMETERS_MAX_BYTES, name);
    return {
      name,
      options,
      script: script === '' ? undefined : script,
      parameters: existsSync(`${parametersFile}.community`)
        ? `${parameters ?? ''}\n${communitySoftware(name)}`
        : parameters,
    };
  });
}

/** Where stage 0 has put the software of a runtime environment that was deployed with
 * `arcctl rte community`. */
const communitySoftware = (name: string) =>
  `RUNTIME_JOB_SWDIR="\${RUNTIME_JOB_DIR}/_software"/${shellQuote(name)}\n`;

/** Whether a name stays below `rte/`: words with slashes between them, none of them `.` or `..`. */
export function isRuntimeName(name: string): boolean {
  return (
    name.length <= 255 &&
    !/\p{Cc}/u.test(decodeBytes(name)) &&
    name.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
  );
}

/** Names below `rte/default`, sorted, so that equal jobs get equal scripts. A link that leads nowhere is
 * none, as in ARC. */
function listRuntimes(folder: string, prefix = '', depth = 0): string[] {
  let entries: Dirent[];
  try {
    entries = readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw new VmbatchError({
      fault: 'site',
      code: 'runtime-environments-unreadable',
      message: `${folder}: cannot be listed (${errnoOf(error) ?? 'unknown error'})`,
      hint: "jobs' users must be able to read the rte folder of the control directory",
      cause: error,
    });
  }
  return entries
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      const name = `${prefix}${encodeBytes(entry.name)}`;
      if (entry.isDirectory()) return depth < MAX_DEPTH ? listRuntimes(path, `${name}/`, depth + 1) : [];
      const stats = statSync(path, { throwIfNoEntry: false });
      return stats === undefined || stats.isDirectory() ? [] : [name];
    })
    .sort();
}

/** Undefined if there is no such file, also at the end of a link. */
function readText(path: string, maxBytes: number, name: string): string | undefined {
  try {
    // The links are the site's own, and lead to wherever its runtime environments are.
    const file = realpathSync(path);
    // What `arcctl rte enable --dummy` makes: a name with nothing to run.
    if (file === '/dev/null') return '';
    // A folder that has runtime environments in it is none itself.
    if (statSync(file).isDirectory()) return undefined;
    return readForeignFile(file, { maxBytes }, 'site')?.toString('latin1');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined;
    throw new VmbatchError({
      fault: 'site',
      code: 'runtime-environment-unusable',
      message: `the runtime environment ${showBytes(name)} cannot be used: ${error instanceof Error ? error.message : String(error)}`,
      hint: "it must be a file that jobs' users can read",
      cause: error,
    });
  }
}

const missing = (name: string, why: string) =>
  new VmbatchError({
    fault: 'job',
    code: 'runtime-environment-missing',
    message: `the runtime environment ${showBytes(name)} is not available here: ${why}`,
    hint: 'arcctl rte list says what there is, arcctl rte enable makes more of it available',
  });
