// First in, first out over the free slots; a job that does not fit is passed over, as pbs_sched does.
import { startComment } from '../common/format.ts';
import { nowSeconds } from '../common/log.ts';
import { type StartMessage, send } from '../common/protocol.ts';
import { lookupGroup, lookupUser } from '../common/users.ts';
import type { BatchNode, BatchServer } from './batch.ts';
import { type Job, type Placement, resourceOf, startRecord } from './job.ts';
import { parseNodeSpec } from './resources.ts';

const NOT_RUNNING = 'Not Running: Not enough of the right type of nodes are available';

/** Slots of each node taken by running jobs. */
function takenSlots(server: BatchServer): Map<string, Set<number>> {
  const taken = new Map([...server.nodes.keys()].map((name) => [name, new Set<number>()]));
  for (const job of server.jobs.values()) {
    if (job.state !== 'R') continue;
    for (const { node, slots } of job.placement) for (const slot of slots) taken.get(node)?.add(slot);
  }
  return taken;
}

function isUp(node: BatchNode): boolean {
  return node.socket !== undefined && !node.offline;
}

/** Where the job would run, or undefined while there is no room. */
function place(
  server: BatchServer,
  job: Job,
  taken: ReadonlyMap<string, Set<number>>,
): Placement[] | undefined {
  const placement: Placement[] = [];
  for (const part of parseNodeSpec(resourceOf(job, 'nodes') ?? '1')) {
    let missing = part.count;
    for (const node of server.nodes.values()) {
      if (missing === 0) break;
      if (!isUp(node) || placement.some((one) => one.node === node.name)) continue;
      if (!part.properties.every((name) => name === node.name || node.properties.includes(name))) continue;
      const free = Array.from({ length: node.np }, (_, slot) => slot).filter(
        (slot) => !taken.get(node.name)?.has(slot),
      );
      if (free.length < part.processors) continue;
      placement.push({ node: node.name, slots: free.slice(0, part.processors) });
      missing--;
    }
    if (missing > 0) return undefined;
  }
  return placement;
}

/** One pass over all queued jobs. */
function pass(server: BatchServer): void {
  if (server.attributes.get('scheduling') !== 'True') return;
  const now = nowSeconds();
  for (const job of server.jobs.values()) {
    if (job.state === 'W' && (job.executionTime ?? 0) <= now)
      server.change(job, { state: 'Q', substate: 10, eligible: now });
  }
  const waiting = [...server.jobs.values()].filter(
    (job) => job.state === 'Q' && (job.notBefore ?? 0) <= Date.now(),
  );
  if (waiting.length === 0) return;
  const taken = takenSlots(server);
  waiting.sort((one, other) => other.priority - one.priority || one.rank - other.rank);
  for (const job of waiting) {
    const queue = server.queues.get(job.queue);
    if (queue?.attributes.get('started') !== 'True' || !underLimit(server, job, queue.attributes)) continue;
    const placement = place(server, job, taken);
    if (placement === undefined) {
      const text =
        'job allocation request exceeds currently available cluster nodes, 1 requested, 0 available';
      server.log('64', 'Req', 'node_spec', text);
      if (job.comment !== NOT_RUNNING) modify(server, job, NOT_RUNNING);
      continue;
    }
    for (const { node, slots } of placement) for (const slot of slots) taken.get(node)?.add(slot);
    start(server, job, placement);
  }
}

function underLimit(server: BatchServer, job: Job, attributes: ReadonlyMap<string, string>): boolean {
  const running = [...server.jobs.values()].filter(
    (other) => other.state === 'R' && other.queue === job.queue,
  );
  const own = running.filter((other) => other.user === job.user).length;
  return (
    running.length < Number(attributes.get('max_running') ?? Number.POSITIVE_INFINITY) &&
    own < Number(attributes.get('max_user_run') ?? Number.POSITIVE_INFINITY)
  );
}

function modify(server: BatchServer, job: Job, comment: string): void {
  server.log('08', 'Job', job.id, `Job Modified at request of root@${server.config.ownerHost}`);
  server.change(job, { comment });
}

function start(server: BatchServer, job: Job, placement: Placement[]): void {
  if (job.startCount === 0) modify(server, job, startComment(new Date()));
  server.log('08', 'Job', job.id, `Job Run at request of root@${server.config.ownerHost}`);
  server.change(job, {
    state: 'R',
    substate: 40,
    placement,
    started: nowSeconds(),
    firstStarted: Date.now(),
    startCount: job.startCount + 1,
    comment: startComment(new Date()),
  });
  server.log('13', 'Job', job.id, 'Not sending email: User does not want mail of this type.');
  server.account('S', job.id, startRecord(job));
  const message = startMessage(server, job);
  const socket = server.nodes.get(placement[0]?.node ?? '')?.socket;
  if (socket !== undefined && message !== undefined) send(socket, message);
  else server.complete(job, { exitStatus: -1 });
}

function startMessage(server: BatchServer, job: Job): StartMessage | undefined {
  const user = lookupUser(job.user);
  if (user === undefined) return undefined;
  const parts = parseNodeSpec(resourceOf(job, 'nodes') ?? '1');
  const suffix = job.id.replace(/^(\d+)(?:\[(\d+)\])?\..*$/, (_, sequence: string, index?: string) =>
    index === undefined ? sequence : `${sequence}-${index}`,
  );
  const plainName = job.arrayIndex === undefined ? job.name : job.name.replace(/-\d+$/, '');
  return {
    kind: 'start',
    id: job.id,
    attempt: job.startCount,
    name: job.name,
    user: job.user,
    uid: user.uid,
    gid: job.group === user.group ? user.gid : (lookupGroup(job.group) ?? user.gid),
    group: job.group,
    groups: user.groups,
    home: user.home,
    loginShell: user.shell,
    queue: job.queue,
    account: job.account ?? '',
    resources: job.resources,
    variables: job.variables,
    slots: job.placement.reduce((sum, { slots }) => sum + slots.length, 0),
    nodeFile: job.placement.flatMap(({ node, slots }) => slots.map(() => node)),
    nodes: job.placement.length,
    processorsPerNode: parts[0]?.processors ?? 1,
    shell: job.shell,
    scriptArguments: job.scriptArguments,
    initDir: job.initDir,
    umask: job.umask,
    join: job.join,
    keep: job.keep,
    outputPath: job.outputPath,
    errorPath: job.errorPath,
    defaultOutputName: `${plainName}.o${suffix}`,
    defaultErrorName: `${plainName}.e${suffix}`,
    arrayIndex: job.arrayIndex,
    stageIn: job.stageIn,
    stageOut: job.stageOut,
    killDelaySeconds: server.config.killDelaySeconds,
    script: job.script,
  };
}

/** Runs a pass soon after every change, and regularly as `scheduler_iteration` says. */
export function startScheduler(server: BatchServer): void {
  let planned = false;
  server.wake = () => {
    if (planned) return;
    planned = true;
    setImmediate(() => {
      planned = false;
      pass(server);
    });
  };
  const again = (): void => {
    setTimeout(
      () => {
        server.wake();
        again();
      },
      Math.max(1, Number(server.attributes.get('scheduler_iteration') ?? '5')) * 1000,
    ).unref();
  };
  again();
}
