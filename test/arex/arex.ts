// A real A-REX on a one-node site: started, driven as a grid user would, and stopped. Its control directory
// is on this machine, its session directory on the site's share; jobs are mapped to the site's account.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeRun, type RunResult } from '../../src/util/processes/run.ts';
import { runSheltered } from '../site/sheltered.ts';
import { QUEUE, type Site } from '../site/site.ts';
import { readIfThere } from '../support/files.ts';

/** In the order in which a job goes through them. */
const STATES = [
  'ACCEPTED',
  'PREPARING',
  'SUBMIT',
  'INLRMS',
  'CANCELING',
  'FINISHING',
  'FINISHED',
  'DELETED',
] as const;
type JobState = (typeof STATES)[number];

export interface ArexOptions {
  /** Queues besides the usual one. */
  queues?: readonly string[];
  /** `key = value` lines for `[lrms]`, for `[arex]`, and for every queue. */
  lrms?: readonly string[];
  arex?: readonly string[];
  queueOptions?: readonly string[];
  /** Further blocks of arc.conf, such as `[custom:vmbatch]`. */
  blocks: string;
  /** Directories of runtime environments that are enabled besides ARC's. */
  rteDirectories?: readonly string[];
}

/** What A-REX has for the accounting of a job, in arcctl's words. */
interface AccountingRecord {
  exitCode: number | undefined;
  queue: string | undefined;
  localId: string | undefined;
  /** `jobname`, `nodenames`, `systemsoftware` … */
  properties: Readonly<Record<string, string>>;
  /** Seconds. */
  wallTime: number | undefined;
  cpus: string | undefined;
  runtimeEnvironments: string[];
  text: string;
}

export interface Arex {
  directory: string;
  control: string;
  arcConf: string;
  /** Submits job descriptions, given as paths; returns the job ids in the same order. */
  submit(...files: string[]): Promise<string[]>;
  /** The state of a job; undefined while it is between two. */
  state(id: string): JobState | undefined;
  /** Waits until the job is in that state or past it; returns the state it is in.
   * @throws Error with A-REX's notes on the job, when it takes too long. */
  waitFor(id: string, state: JobState, timeoutMs?: number): Promise<JobState>;
  /** Waits for the end; returns what A-REX gives as reason of a failure, '' if the job succeeded. */
  end(id: string, timeoutMs?: number): Promise<string>;
  /** Fetches the outputs of finished jobs with arcget, which leaves the jobs where they are; the directory of
   * each. */
  get(...ids: string[]): Promise<string[]>;
  kill(id: string): Promise<RunResult>;
  /** The text that users get as `gmlog/errors`. */
  errors(id: string): string;
  /** The job's batch job. */
  localId(id: string): string | undefined;
  /** `.diag` as A-REX has it at the end; a key may come several times. */
  diag(id: string): Map<string, string[]>;
  accounting(id: string): Promise<AccountingRecord>;
  /** GLUE2 as A-REX publishes it (XML), or a line for each share. */
  info(what?: '--xml' | '--ldif' | '--shares'): Promise<string>;
  /** Stops it as a service manager would, and starts it again. */
  restart(): Promise<void>;
  /** Ends its processes at once. May be called again. */
  stop(): Promise<void>;
}

const JOB_MS = 90_000;

/** Starts it; it is stopped with the site at the latest.
 * @throws Error with what the start said. */
export async function startArex(site: Site, options: ArexOptions): Promise<Arex> {
  const directory = join(site.directory, 'arex');
  const control = join(directory, 'control');
  const outputs = join(directory, 'outputs');
  const blocks = join(site.directory, 'arex-blocks');
  writeFileSync(blocks, options.blocks);
  const upOptions = [
    ...['--user', site.account.name, '--sessions', site.sessions],
    ...['--backend-dir', join(site.dist, 'arc-backend'), '--block', blocks],
    ...[QUEUE, ...(options.queues ?? [])].flatMap((queue) => ['--queue', queue]),
    ...[
      `pbs_bin_path = ${site.standin.binDir}`,
      `pbs_log_path = ${site.standin.serverLogDir}`,
      ...(options.lrms ?? []),
    ].flatMap((line) => ['--lrms-opt', line]),
    ...(options.arex ?? []).flatMap((line) => ['--arex-opt', line]),
    ...(options.queueOptions ?? []).flatMap((line) => ['--queue-opt', line]),
    ...[join(site.dist, 'share/rte'), ...(options.rteDirectories ?? [])].flatMap((path) => [
      '--rte-dir',
      path,
    ]),
  ];
  const call = async (script: string, ...args: string[]): Promise<string> => {
    const result = await tryCall(script, ...args);
    if (result.exitCode === 0) return result.stdout;
    throw new Error(`${describeRun(result)}\n${result.stderr}`);
  };
  const tryCall = (script: string, ...args: string[]) =>
    runSheltered(join(import.meta.dirname, script), [directory, ...args], {
      cwd: site.directory,
      env: { PATH: process.env['PATH'] },
      timeoutMs: 120_000,
    });
  const stop = async () => {
    if (existsSync(join(directory, 'instance.env'))) await call('arex-down', '--kill');
  };
  site.beforeStop('stop A-REX', async () => void (await stop()));
  await call('arex-up', ...upOptions);
  mkdirSync(outputs, { recursive: true });

  const file = (id: string, suffix: string) => join(control, `job.${id}.${suffix}`);
  const state = (id: string): JobState | undefined => {
    for (const folder of ['accepting', 'restarting', 'processing', 'finished']) {
      const text = readIfThere(join(control, folder, `job.${id}.status`)).trim();
      const found = STATES.find((name) => text === name || text === `PENDING:${name}`);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  const waitFor = async (id: string, wanted: JobState, timeoutMs = JOB_MS): Promise<JobState> => {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const now = state(id);
      if (now !== undefined && STATES.indexOf(now) >= STATES.indexOf(wanted)) return now;
      if (performance.now() > deadline) {
        const notes = readIfThere(file(id, 'errors')).slice(-2_000);
        throw new Error(`job ${id} is ${now} after ${timeoutMs / 1000} s, not ${wanted}:\n${notes}`);
      }
      await sleep(50);
    }
  };

  return {
    directory,
    control,
    arcConf: join(directory, 'arc.conf'),
    state,
    waitFor,
    submit: async (...files) => (await call('arex-submit', ...files)).trim().split('\n'),
    async end(id, timeoutMs) {
      await waitFor(id, 'FINISHED', timeoutMs);
      return existsSync(file(id, 'failed'))
        ? readIfThere(file(id, 'failed')).trim() || 'no reason given'
        : '';
    },
    async get(...ids) {
      await call('arex-get', outputs, ...ids, '--keep');
      return ids.map((id) => {
        // A job without outputs gets no directory from arcget.
        mkdirSync(join(outputs, id), { recursive: true });
        return join(outputs, id);
      });
    },
    kill: (id) => tryCall('arex-kill', id),
    errors: (id) => readIfThere(file(id, 'errors')),
    localId: (id) => /^localid=(.*)$/m.exec(readIfThere(file(id, 'local')))?.[1],
    diag(id) {
      const pairs = new Map<string, string[]>();
      for (const [, key = '', value = ''] of readIfThere(file(id, 'diag')).matchAll(/^(\w+)=(.*)$/gm))
        pairs.set(key.toLowerCase(), [...(pairs.get(key.toLowerCase()) ?? []), value]);
      return pairs;
    },
    async accounting(id) {
      const result = await runSheltered(
        'arcctl',
        ['-c', join(directory, 'arc.conf'), 'accounting', 'job', 'info', id],
        { cwd: site.directory, env: { PATH: process.env['PATH'], LC_ALL: 'C.UTF-8' } },
      );
      return parseAccounting(result.stdout + result.stderr);
    },
    info: (what = '--xml') => call('arex-info', what),
    async restart() {
      await call('arex-down');
      await call('arex-up', ...upOptions);
    },
    stop,
  };
}

function parseAccounting(text: string): AccountingRecord {
  const find = (pattern: RegExp) => pattern.exec(text)?.[1];
  const number = (found: string | undefined) => (found === undefined ? undefined : Number(found));
  const properties: Record<string, string> = {};
  const block = /properties are recorded:\n((?: {4}.*\n)*)/.exec(text)?.[1] ?? '';
  for (const [, key = '', value = ''] of block.matchAll(/^ +(\w+): (.*)$/gm))
    properties[key.toLowerCase()] = value;
  return {
    exitCode: number(find(/(?:completed|failed) with exit code (-?\d+)/)),
    queue: find(/targeted to the "([^"]*)" queue/),
    localId: find(/with "([^"]*)" LRMS ID/),
    properties,
    wallTime: seconds(find(/Used WallTime: (.*)/)),
    cpus: find(/Used CPUs: (.*)/),
    runtimeEnvironments: [
      ...(/Used RunTime Environments:\n((?: .*\n)*)/.exec(text)?.[1] ?? '').matchAll(/\S+\/\S+/g),
    ].map(([name]) => name),
    text,
  };
}

/** `12`, `0:01:05` or `1 day, 0:00:01`, as Python prints a time delta. */
function seconds(text: string | undefined): number | undefined {
  const found = /^(?:(\d+) days?, )?(?:(\d+):)?(?:(\d+):)?(\d+)/.exec(text ?? '');
  if (found === null) return undefined;
  const [days, hours, minutes, rest] = found.slice(1).map((part) => Number(part ?? 0));
  return (((days ?? 0) * 24 + (hours ?? 0)) * 60 + (minutes ?? 0)) * 60 + (rest ?? 0);
}

/** Ids of all batch jobs that the server has for a grid job: their output goes beside its session
 * directory. */
export function batchJobsOf(site: Site, id: string): string[] {
  const jobs = join(site.standin.home, 'server_priv/jobs');
  return readdirSync(jobs)
    .filter((entry) => entry.endsWith('.JB'))
    .map((entry) => JSON.parse(readFileSync(join(jobs, entry), 'utf8')) as { id: string; errorPath: string })
    .filter(({ errorPath }) => errorPath.endsWith(`:${join(site.sessions, id)}.comment`))
    .map((job) => job.id);
}
