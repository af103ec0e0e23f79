// Where a mom puts the output of a job in the end, by the rules of TORQUE's own source: is_remote, told_to_cp
// and expand_words in its requests.c, std_file_name in its start_exec.c.
import { join } from 'node:path';
import { type MomConfig, settingsNamed } from './mom-config.ts';
import type { MomJob } from './mom-job-file.ts';

/** Where an error file is on this node, or why there is none. */
export type OutputPlace =
  | { is: 'file'; path: string; inDirectory: string }
  /** The owner wants none. */
  | { is: 'discarded' }
  | { is: 'unreachable'; why: string };

export interface OutputSite {
  jobId: string;
  owner: { name: string; home: string };
  queue: string;
  /** How this node is called. */
  hostNames: readonly string[];
  config: MomConfig;
}

/** The file with the job's error output: with `-j oe` the one with its output, with `-k e` one in the home.
 * `inDirectory` is the name of the file where `path` turns out to be a directory. */
export function errorPlace(job: MomJob, site: OutputSite): OutputPlace {
  const isJoined = job.join.startsWith('o') && job.join.includes('e');
  const key = isJoined ? 'o' : 'e';
  const named = isJoined ? job.outputPath : job.errorPath;
  const { sequence, index } = numbersOf(site.jobId);
  const plainName = index === '' ? job.name : job.name.replace(/-[0-9]+$/, '');
  const inDirectory = `${plainName.replace(/^.*\//s, '')}.${key}${sequence}${index}`;
  if (job.isInteractive) return { is: 'discarded' };
  if (job.keep.includes(key)) {
    const path = join(site.owner.home, `${job.name.replace(/^.*\//s, '')}.${key}${sequence}`);
    return { is: 'file', path, inDirectory };
  }
  if (named === undefined) return { is: 'unreachable', why: 'TORQUE has noted no file for its output' };
  const local = localPath(named, site);
  if (local === undefined)
    return { is: 'unreachable', why: `${named} is on another host, and no $usecp line of the mom names it` };
  if (local === '/dev/null') return { is: 'discarded' };
  const expanded = expand(local, job, site);
  if (expanded === undefined)
    return { is: 'unreachable', why: `${named} has signs that only a shell could make a path of` };
  const path = expanded.startsWith('/') ? expanded : join(site.owner.home, expanded);
  return { is: 'file', path: path.endsWith('/') ? join(path, inDirectory) : path, inDirectory };
}

/** `112` and nothing, or of `113[4].server` `113` and `-4`. */
function numbersOf(jobId: string): { sequence: string; index: string } {
  const [, sequence = '', index] = /^([0-9]+)(?:\[([0-9]+)\])?/.exec(jobId) ?? [];
  return { sequence, index: index === undefined ? '' : `-${index}` };
}

/** The path of `HOST:PATH` here; undefined if it is elsewhere. */
function localPath(place: string, { hostNames, config }: OutputSite): string | undefined {
  const colon = place.indexOf(':');
  if (colon === -1) return place;
  const [host, path] = [place.slice(0, colon), place.slice(colon + 1)];
  if (path === '/dev/null') return path;
  if (host.startsWith('localhost') || hostNames.some((name) => isSameHost(name, host))) return path;
  for (const { value } of settingsNamed(config, 'usecp')) {
    const [, hosts, from, to] = /^([^:]*):(\S+)\s+(.*)$/s.exec(value) ?? [];
    if (hosts === undefined || from === undefined || to === undefined) continue;
    if (matchesHosts(host, hosts) && path.startsWith(from)) return to + path.slice(from.length);
  }
  return undefined;
}

/** A host by its short name, or by a longer one. */
const isSameHost = (one: string, other: string) =>
  other !== '' && (one === other || one.startsWith(`${other}.`) || other.startsWith(`${one}.`));

/** A `*` at the beginning of a pattern stands for one character or more; nowhere else is it special. */
const matchesHosts = (host: string, pattern: string) =>
  pattern.startsWith('*')
    ? host.length >= pattern.length && host.endsWith(pattern.slice(1))
    : host === pattern;

/** What wordexp makes of a path, as far as that needs no shell: variables of the job. Blanks are taken as
 * they are.
 * @returns undefined where it would make something else of it, or nothing */
function expand(
  path: string,
  { variables, name }: MomJob,
  { jobId, owner, queue }: OutputSite,
): string | undefined {
  const own: [string, string][] = [
    ['HOME', owner.home],
    ['LOGNAME', owner.name],
    ['USER', owner.name],
    ['PBS_JOBID', jobId],
    ['PBS_JOBNAME', name],
    ['PBS_QUEUE', queue],
  ];
  const known = new Map([...variables, ...own]);
  const strange = /["'`\\|&;<>(){}\n\r\0]/;
  let isClear = true;
  const expanded = path.replaceAll(/\$(?:(\w+)|\{(\w+)\})|\$/g, (_, plain?: string, braced?: string) => {
    const value = known.get(plain ?? braced ?? '');
    isClear &&= value !== undefined && !/\s/.test(value) && !value.includes('\0');
    return value ?? '';
  });
  const rest = path.replaceAll(/\$(?:\w+|\{\w+\})/g, '');
  return isClear && !strange.test(rest) && !path.startsWith('~') ? expanded : undefined;
}
