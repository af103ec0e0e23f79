// A job as the server keeps it, and the attributes that qstat -f shows of it.
import { parseDuration } from '../common/format.ts';
import { nowSeconds } from '../common/log.ts';
import type { Pair, StagedFile } from '../common/protocol.ts';

export interface Placement {
  node: string;
  slots: number[];
}

export interface Job {
  id: string;
  sequence: number;
  arrayIndex?: number | undefined;
  name: string;
  user: string;
  group: string;
  owner: string;
  queue: string;
  state: 'Q' | 'H' | 'W' | 'R' | 'C';
  substate: number;
  account?: string | undefined;
  created: number;
  modified: number;
  queued: number;
  /** Absent while the job was never eligible to run (held since its submission). */
  eligible?: number | undefined;
  /** Milliseconds, for `total_runtime`. */
  firstStarted?: number | undefined;
  started?: number | undefined;
  completed?: number | undefined;
  totalRuntime?: string | undefined;
  outputPath: string;
  errorPath: string;
  placement: Placement[];
  /** Once C, where the job was: its slots are free but exec_host stays. */
  held: boolean;
  join: string;
  keep: string;
  mailPoints: string;
  mailUsers?: string | undefined;
  priority: number;
  rerunnable: boolean;
  resources: Pair[];
  used: Pair[];
  session?: number | undefined;
  shell?: string | undefined;
  scriptArguments?: string | undefined;
  initDir?: string | undefined;
  umask: number;
  variables: Pair[];
  /** Seconds: not run before. */
  executionTime?: number | undefined;
  stageIn: StagedFile[];
  stageOut: StagedFile[];
  rank: number;
  comment?: string | undefined;
  exitStatus?: number | undefined;
  submitArgs: string;
  submitHost: string;
  workDir: string;
  startCount: number;
  deleted: boolean;
  /** Milliseconds: not started again before this moment. */
  notBefore?: number | undefined;
  script: string;
}

export function resourceOf(job: Job, name: string): string | undefined {
  return job.resources.find(([other]) => other === name)?.[1];
}

function stageList(files: readonly StagedFile[]): string {
  return files.map(({ local, host, remote }) => `${local}@${host}:${remote}`).join(',');
}

/** `vm/1-2`, of several nodes joined by `+`. */
function execHost(job: Job): string {
  return job.placement.map(({ node, slots }) => `${node}/${compactRange(slots)}`).join('+');
}

/** `1-2`, `0,2-3`. */
export function compactRange(numbers: readonly number[]): string {
  const sorted = [...numbers].sort((one, other) => one - other);
  const ranges: [first: number, last: number][] = [];
  for (const number of sorted) {
    const last = ranges.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(',');
}

/** Attributes in TORQUE's order; times are epoch seconds, as XML shows them.
 * @param cgroups whether TORQUE was built with them: it then tells what each task of a placed job was
 * given */
export function jobAttributes(job: Job, server: string, cgroups = false): Pair[] {
  const list: Pair[] = [];
  const add = (name: string, value: string | number | undefined): void => {
    if (value !== undefined && value !== '') list.push([name, String(value)]);
  };
  add('Job_Name', job.name);
  add('Job_Owner', job.owner);
  for (const [name, value] of job.used) add(`resources_used.${name}`, value);
  add('job_state', job.state);
  add('queue', job.queue);
  add('server', server);
  add('Account_Name', job.account);
  add('Checkpoint', 'u');
  add('ctime', job.created);
  add('Error_Path', job.errorPath);
  add('exec_host', execHost(job));
  add('Execution_Time', job.executionTime);
  add('Hold_Types', job.held ? 'u' : 'n');
  add('Join_Path', job.join);
  add('Keep_Files', job.keep);
  add('Mail_Points', job.mailPoints);
  add('Mail_Users', job.mailUsers);
  add('mtime', job.modified);
  add('Output_Path', job.outputPath);
  add('Priority', job.priority);
  add('qtime', job.queued);
  add('Rerunable', job.rerunnable ? 'True' : 'False');
  for (const [name, value] of job.resources) add(`Resource_List.${name}`, value);
  add('session_id', job.session);
  add('Shell_Path_List', job.shell);
  add('stagein', stageList(job.stageIn));
  add('stageout', stageList(job.stageOut));
  add('substate', job.substate);
  add('Variable_List', job.variables.map(([name, value]) => `${name}=${value}`).join(','));
  add('euser', job.user);
  add('egroup', job.group);
  add('hashname', job.startCount > 0 ? job.id : undefined);
  add('queue_rank', job.rank);
  add('queue_type', 'E');
  add('comment', job.comment);
  add('etime', job.eligible);
  add('exit_status', job.exitStatus);
  add('submit_args', job.submitArgs);
  add('start_time', job.started);
  if (job.state === 'R') add('Walltime.Remaining', remainingWalltime(job));
  add('start_count', job.startCount > 0 ? job.startCount : undefined);
  add('fault_tolerant', 'False');
  add('job_array_id', job.arrayIndex);
  add('comp_time', job.state === 'C' && job.startCount > 0 ? job.completed : undefined);
  add('job_radix', '0');
  add('total_runtime', job.totalRuntime);
  add('submit_host', job.submitHost);
  add('init_work_dir', job.workDir);
  add('request_version', '1');
  if (cgroups && job.placement.length > 0) list.push(...requestInformation(job));
  return list;
}

/** As `req::get_values` and `encode_complete_req` of TORQUE 6 have it. */
function requestInformation(job: Job): Pair[] {
  return job.placement.flatMap(({ node, slots }, index): Pair[] => [
    [`req_information.task_count.${index}`, '1'],
    [`req_information.lprocs.${index}`, String(slots.length)],
    [`req_information.thread_usage_policy.${index}`, 'allowthreads'],
    [`req_information.hostlist.${index}`, `${node}:ppn=${slots.length}`],
    [
      `req_information.task_usage.${index}.task.0`,
      `cpu_list=${slots.join('-')},mem_list=0,cores=0,threads=${slots.length},host=${node}`,
    ],
  ]);
}

function remainingWalltime(job: Job): number | undefined {
  const limit = parseDuration(resourceOf(job, 'walltime') ?? '');
  return limit === undefined
    ? undefined
    : Math.max(0, limit - (nowSeconds() - (job.started ?? nowSeconds())));
}

/** The first part of an accounting S record, which the E record repeats. */
export function startRecord(job: Job): string {
  const words = [`user=${job.user}`, `group=${job.group}`];
  if (job.account !== undefined) words.push(`account=${job.account}`);
  words.push(
    `jobname=${job.name}`,
    `queue=${job.queue}`,
    `ctime=${job.created}`,
    `qtime=${job.queued}`,
    `etime=${job.eligible ?? job.queued}`,
    `start_count=${job.startCount}`,
    `start=${job.started ?? 0}`,
    `owner=${job.owner}`,
  );
  if (job.placement.length > 0) words.push(`exec_host=${execHost(job)}`);
  words.push(...job.resources.map(([name, value]) => `Resource_List.${name}=${value}`));
  return `${words.join(' ')} `;
}

/** `cput` is in plain seconds in logs, though qstat shows `h:m:s`. */
export function usedForLog(job: Job): string {
  return job.used
    .map(
      ([name, value]) =>
        `resources_used.${name}=${name === 'cput' ? (parseDuration(value) ?? value) : value}`,
    )
    .join(' ');
}

export function endRecord(job: Job): string {
  let text = `${startRecord(job)}session=${job.session ?? 0}`;
  if (job.placement.length > 0) {
    const slots = job.placement.reduce((sum, place) => sum + place.slots.length, 0);
    text += ` total_execution_slots=${slots} unique_node_count=${new Set(job.placement.map(({ node }) => node)).size}`;
  }
  text += ` end=${job.completed ?? nowSeconds()} Exit_status=${job.exitStatus ?? 0}`;
  const used = usedForLog(job);
  return used === '' ? text : `${text} ${used}`;
}
