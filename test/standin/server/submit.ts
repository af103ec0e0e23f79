// Accepting a job: the checks of qsub's request, in TORQUE's words, and the job that comes of it.
import { BatchFault } from '../common/faults.ts';
import { nowSeconds } from '../common/log.ts';
import type { Pair, SubmitRequest } from '../common/protocol.ts';
import type { UnixUser } from '../common/users.ts';
import type { BatchServer, Queue } from './batch.ts';
import { executionGroup } from './group.ts';
import type { Job } from './job.ts';
import { checkResources, completeResources, exceeds, parseNodeSpec } from './resources.ts';

function findQueue(server: BatchServer, name: string): Queue {
  const queue = server.queues.get(name);
  if (queue !== undefined) return queue;
  server.log('01', 'Svr', 'PBS_Server', 'LOG_ERROR::req_quejob, requested queue not found');
  throw new BatchFault('unknownQueue', 'MSG=requested queue not found');
}

function withPrefix(queue: Queue, prefix: string): Pair[] {
  return [...queue.attributes]
    .filter(([name]) => name.startsWith(prefix))
    .map(([name, value]): Pair => [name.slice(prefix.length), value]);
}

/** Limits of the queue, in the order in which TORQUE looks at them. */
function checkQueue(server: BatchServer, queue: Queue, user: UnixUser, owner: string, adding: number): void {
  const who = `user ${owner}, queue ${queue.name}`;
  const attribute = (name: string): string | undefined => queue.attributes.get(name);
  if (attribute('enabled') !== 'True') throw new BatchFault('queueDisabled', `MSG=queue is disabled: ${who}`);
  const listed = (name: string, value: string): boolean =>
    (attribute(name) ?? '').split(',').some((entry) => entry.split('@')[0] === value);
  if (attribute('acl_user_enable') === 'True' && !listed('acl_users', user.name)) {
    throw new BatchFault('unauthorized', `MSG=user ACL rejected the submitting user: ${who}`);
  }
  if (attribute('acl_group_enable') === 'True' && !listed('acl_groups', user.group)) {
    throw new BatchFault('unauthorized', `MSG=group ACL rejected the submitting user: ${who}`);
  }
  const present = [...server.jobs.values()].filter((job) => job.queue === queue.name && job.state !== 'C');
  const most = Number(attribute('max_queuable') ?? Number.POSITIVE_INFINITY);
  if (present.length + adding > most) {
    throw new BatchFault('queueFull', `MSG=total number of jobs in queue exceeds the queue limit: ${who}`);
  }
  const own = present.filter((job) => job.user === user.name).length;
  if (own + adding > Number(attribute('max_user_queuable') ?? Number.POSITIVE_INFINITY)) {
    throw new BatchFault(
      'userQueueFull',
      `MSG=total number of current user's jobs exceeds the queue limit: ${who}`,
    );
  }
}

function checkFeasible(server: BatchServer, specification: string): void {
  const nodes = [...server.nodes.values()];
  const feasible = parseNodeSpec(specification).every((part) => {
    const fitting = nodes.filter(
      (node) =>
        node.np >= part.processors &&
        part.properties.every((name) => name === node.name || node.properties.includes(name)),
    );
    return fitting.length >= part.count;
  });
  if (feasible) return;
  const spec = `job requesting nodes that will never be available - spec = ${specification}`;
  server.log('01', 'Svr', 'PBS_Server', `LOG_ERROR::node_spec, ${spec}`);
  throw new BatchFault(
    'exceedsLimit',
    'MSG=cannot locate feasible nodes (nodes file is empty, all systems are busy, or no nodes have the requested feature)',
  );
}

/** `0-3,7`, with an optional slot limit (`%2`) that the stand-in ignores. */
function arrayIndices(range: string): number[] {
  const indices: number[] = [];
  for (const part of range.replace(/%\d+$/, '').split(',')) {
    const match = /^(\d+)(?:-(\d+))?$/.exec(part);
    if (match === null) throw new BatchFault('syntax', 'MSG=Invalid Syntax');
    const last = Number(match[2] ?? match[1]);
    for (let index = Number(match[1]); index <= last && indices.length <= 10_000; index++)
      indices.push(index);
  }
  return indices;
}

/** Takes a job (or an array) into its queue; returns what qsub prints. Throws BatchFault. */
export function submit(server: BatchServer, request: SubmitRequest, user: UnixUser): string {
  const owner = `${user.name}@${server.config.ownerHost}`;
  const asked = checkResources(request.resources);
  const queue = findQueue(server, request.queue ?? server.attributes.get('default_queue') ?? '');
  const indices = request.arrayRange === undefined ? [undefined] : arrayIndices(request.arrayRange);
  const nodes = asked.find(([name]) => name === 'nodes')?.[1];
  if (nodes !== undefined) parseNodeSpec(nodes);
  executionGroup(user, request.group);
  checkQueue(server, queue, user, owner, indices.length);
  const resources = completeResources(asked, withPrefix(queue, 'resources_default.'));
  for (const [name, limit] of withPrefix(queue, 'resources_max.')) {
    const value = resources.find(([other]) => other === name)?.[1];
    if (value !== undefined && exceeds(name, value, limit)) {
      throw new BatchFault('exceedsLimit', `MSG=cannot satisfy queue max ${name} requirement`);
    }
  }
  checkFeasible(server, resources.find(([name]) => name === 'nodes')?.[1] ?? '1');
  const sequence = server.nextJob++;
  for (const index of indices)
    enqueue(server, makeJob(server, request, user, queue, resources, sequence, index));
  server.saveDatabase();
  server.wake();
  return request.arrayRange === undefined ? `${sequence}.${server.name}` : `${sequence}[].${server.name}`;
}

/** TORQUE's numbers of states, as its log has them. */
const STATE_NUMBERS = { Q: 1, H: 2, W: 3, R: 4, C: 6 } as const;

function enqueue(server: BatchServer, job: Job): void {
  server.jobs.set(job.id, job);
  server.save(job);
  server.log('256', 'Job', job.id, `enqueuing into ${job.queue}, state ${STATE_NUMBERS[job.state]} hop 1`);
  server.log('08', 'Job', 'perform_commit_work', `job_id: ${job.id}`);
  server.account('Q', job.id, `queue=${job.queue}`);
}

function makeJob(
  server: BatchServer,
  request: SubmitRequest,
  user: UnixUser,
  queue: Queue,
  resources: Pair[],
  sequence: number,
  arrayIndex: number | undefined,
): Job {
  const now = nowSeconds();
  const name = arrayIndex === undefined ? request.name : `${request.name}-${arrayIndex}`;
  const suffix = arrayIndex === undefined ? `${sequence}` : `${sequence}-${arrayIndex}`;
  const standard = (kind: string): string =>
    `${request.submitHost}:${request.workDir}/${request.name}.${kind}${suffix}`;
  const waits = (request.executionTime ?? 0) > now;
  const variables: Pair[] = [['PBS_O_QUEUE', request.queue ?? queue.name], ...request.variables];
  if (arrayIndex !== undefined) variables.push(['PBS_ARRAYID', String(arrayIndex)]);
  return {
    id: `${sequence}${arrayIndex === undefined ? '' : `[${arrayIndex}]`}.${server.name}`,
    sequence,
    arrayIndex,
    name,
    user: user.name,
    group: executionGroup(user, request.group),
    owner: `${user.name}@${server.config.ownerHost}`,
    queue: queue.name,
    state: request.hold ? 'H' : waits ? 'W' : 'Q',
    substate: request.hold ? 20 : waits ? 30 : 10,
    account: request.account,
    created: now,
    modified: now,
    queued: now,
    eligible: request.hold || waits ? undefined : now,
    outputPath: request.outputPath ?? standard('o'),
    errorPath: request.errorPath ?? standard('e'),
    placement: [],
    held: request.hold,
    join: request.join,
    keep: request.keep,
    mailPoints: request.mailPoints,
    mailUsers: request.mailUsers,
    priority: request.priority,
    rerunnable: request.rerunnable,
    resources: resources.map(([key, value]): Pair => [key, value]),
    used: [],
    shell: request.shell,
    scriptArguments: request.scriptArguments,
    initDir: request.initDir,
    executionTime: request.executionTime,
    stageIn: request.stageIn,
    stageOut: request.stageOut,
    umask: Number.parseInt(request.umask ?? '077', 8),
    variables,
    rank: server.nextRank++,
    submitArgs: request.submitArgs,
    submitHost: request.submitHost,
    workDir: request.workDir,
    startCount: 0,
    deleted: false,
    script: request.script,
  };
}
