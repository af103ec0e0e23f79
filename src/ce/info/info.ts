// Info: what A-REX's information provider wants to know, in one JSON document, for VMBATCHmod.pm to hand on.
import type { ArcConfiguration } from '../../arc/configuration/configuration.ts';
import { pbsnodes, type TorqueNode } from '../../batch/torque/answers/pbsnodes.ts';
import { streamJobElements } from '../../batch/torque/answers/qstat.ts';
import {
  type Attributes,
  describeQueues,
  describeServer,
  type QueueDescription,
} from '../../batch/torque/answers/queues.ts';
import type { Torque } from '../../batch/torque/commands.ts';
import { toVmbatchError, VmbatchError } from '../../util/errors.ts';
import { addSums, JobCollector, type JobInformation, type JobSums, noJobs } from './jobs.ts';
import {
  cpuDistribution,
  describeConditions,
  describeNode,
  type NodeInformation,
  nodesOfQueue,
  totalCpus,
} from './nodes.ts';
import { describeQueue, destinationsOf, type QueueInformation } from './queues.ts';
import type { InformationRequest } from './request.ts';

/** What LRMSInfo.pm describes, for the queues and jobs asked for. What is not known is left out. */
export interface Information {
  /** Sums over the nodes of these queues, and over the jobs that wait in these queues. What runs on the nodes
   * counts, from whichever queue. */
  cluster: {
    lrms_type: 'torque';
    lrms_glue_type: 'torque';
    lrms_version: string;
    totalcpus: number;
    usedcpus: number;
    queuedcpus: number;
    runningjobs: number;
    queuedjobs: number;
    /** `4cpu:2 8cpu:1`. */
    cpudistribution: string;
  };
  /** Queues that TORQUE has. */
  queues: Record<string, QueueInformation>;
  /** Jobs asked for that TORQUE has. */
  jobs: Readonly<Record<string, JobInformation>>;
  nodes: Record<string, NodeInformation>;
  /** By queue: the images that its guests may be made of, the default first. */
  images: Record<string, readonly string[]>;
  /** What could not be found out: of what is missing nothing can be said. */
  problems: string[];
  /** What an administrator should look at. */
  warnings: string[];
  /** What is worth knowing. */
  notes: string[];
}

/** What vmbatch takes from arc.conf for this. */
export type InformationSite = Pick<ArcConfiguration, 'dedicatedNodeString' | 'queues' | 'queue'>;

/** All that TORQUE said. */
interface Answers {
  jobs: JobCollector;
  queues: readonly QueueDescription[];
  nodes: readonly TorqueNode[];
  server: Attributes;
  problems: string[];
  /** What of the answers could not be used. */
  unusable: readonly string[];
}

/** After this long an answer is no longer waited for. VMBATCHmod.pm waits a little longer than that. */
const PATIENCE_MS = 120_000;

/** Asks TORQUE once for each kind of thing. Memory is bounded by the jobs asked for, not by those that TORQUE
 * has. A server that does not answer makes an empty document with `problems`.
 * @param request undefined: the queues of arc.conf (of TORQUE, if it has none) and all of their jobs */
export async function information(
  torque: Torque,
  site: InformationSite,
  request?: InformationRequest,
): Promise<Information> {
  const problems: string[] = [];
  const attempt = async <T>(work: Promise<T>, otherwise: () => T): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      problems.push(toVmbatchError(error, 'site').message);
      return otherwise();
    }
  };
  const jobs = new JobCollector(request?.jobs);
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const unusable: string[] = [];
  const onProblem = (problem: string) => unusable.push(problem);
  const streamed = streamJobElements(torque, {
    signal,
    onProblem,
    onElement: (element) => jobs.add(element),
  });
  const [complete, queues, nodes, server] = await Promise.all([
    attempt(
      streamed.then(() => true),
      () => false,
    ),
    attempt(describeQueues(torque, signal).then(refuseNone), () => []),
    attempt(pbsnodes(torque, { signal, onProblem }), () => []),
    attempt(describeServer(torque, signal), () => new Map()),
  ]);
  // Half of the jobs would make figures that look like good news.
  const known = complete ? jobs : new JobCollector([]);
  unusable.push(...known.settle());
  const asked = request ?? { queues: askForAll(site, queues), jobs: undefined };
  return await describe({ jobs: known, queues, nodes, server, problems, unusable }, site, asked);
}

/** A server without queues could not have any of our jobs: it is no answer. */
function refuseNone(queues: QueueDescription[]): QueueDescription[] {
  if (queues.length > 0) return queues;
  throw new VmbatchError({
    fault: 'site',
    code: 'torque-answer',
    message: 'qstat -Q -f: names no queue, must name those of the server',
  });
}

function askForAll(site: InformationSite, queues: readonly QueueDescription[]): InformationRequest['queues'] {
  const names = site.queues.length > 0 ? site.queues : queues.map(({ name }) => name);
  return new Map(names.map((name) => [name, { users: [], totalCpus: undefined }]));
}

/** One of the queues asked for, with what belongs to it. */
interface Share {
  name: string;
  queue: QueueDescription;
  destinations: readonly QueueDescription[];
  nodes: readonly TorqueNode[];
}

async function describe(
  answers: Answers,
  site: InformationSite,
  request: InformationRequest,
): Promise<Information> {
  const { jobs, nodes, server, problems } = answers;
  const byName = new Map(answers.queues.map((queue) => [queue.name, queue]));
  const shares = [...request.queues.keys()].flatMap((name): Share[] => {
    const queue = byName.get(name);
    if (queue === undefined) return [];
    const own = nodesOfQueue(queue, byName, nodes, site);
    return [{ name, queue, destinations: destinationsOf(queue, byName), nodes: own }];
  });
  const sumsOf = (names: Iterable<string>): JobSums =>
    addSums([...new Set(names)].map((name) => jobs.sums.get(name) ?? noJobs()));
  const members = (share: Share) => [share.name, ...share.destinations.map(({ name }) => name)];
  const used = nodes.filter((node) => shares.some((share) => share.nodes.includes(node)));
  const all = sumsOf(shares.flatMap(members));
  // Slots of a node are in use whichever queue their jobs came from.
  const onNodes = (counts: ReadonlyMap<string, number>) =>
    used.reduce((sum, { name }) => sum + (counts.get(name) ?? 0), 0);
  const allSums = sumsOf(jobs.sums.keys());
  const groups = await groupsOfUsers(shares, request);
  const imagesOf = (name: string) => site.queue(name).images;
  const conditions = describeConditions(used);
  return {
    cluster: {
      lrms_type: 'torque',
      lrms_glue_type: 'torque',
      lrms_version:
        server.get('pbs_version') ?? nodes.find(({ torqueVersion }) => torqueVersion)?.torqueVersion ?? '',
      totalcpus: totalCpus(used),
      usedcpus: onNodes(jobs.cpusOnHost),
      queuedcpus: all.waitingCpus,
      runningjobs: onNodes(jobs.jobsOnHost),
      queuedjobs: all.waitingJobs,
      cpudistribution: cpuDistribution(used),
    },
    queues: Object.fromEntries(
      shares.map((share) => {
        const { users = [], totalCpus: most } = request.queues.get(share.name) ?? {};
        const sums = sumsOf(members(share));
        return [
          share.name,
          describeQueue({ ...share, server, sums, allSums, users, groups, totalCpus: most }),
        ];
      }),
    ),
    jobs: jobs.found(new Set(shares.flatMap(members))),
    nodes: Object.fromEntries(
      used.map((node) => {
        const serves = shares.filter((share) => share.nodes.includes(node));
        return [node.name, describeNode(node, [...new Set(serves.flatMap(({ name }) => imagesOf(name)))])];
      }),
    ),
    images: Object.fromEntries([...request.queues.keys()].map((name) => [name, imagesOf(name)])),
    problems,
    warnings: [...answers.unusable, ...warningsOf(answers, shares, request), ...conditions.ours],
    notes: conditions.others,
  };
}

function warningsOf(answers: Answers, shares: readonly Share[], request: InformationRequest): string[] {
  const warnings: string[] = [];
  const there = new Set(shares.map(({ name }) => name));
  // Without an answer nothing is missing.
  if (answers.queues.length > 0)
    for (const name of request.queues.keys())
      if (!there.has(name)) warnings.push(`[queue:${name}]: TORQUE has no queue of this name`);
  if (answers.nodes.length > 0)
    for (const { name, nodes } of shares)
      if (nodes.length === 0)
        warnings.push(
          `[queue:${name}]: no node is for this queue; compare pbs_dedicated_node_string and pbs_queue_node in arc.conf, and the queue's neednodes, with the properties that pbsnodes shows`,
        );
  return warnings;
}

/** Asks the accounts only where a queue has a list of groups. */
async function groupsOfUsers(
  shares: readonly Share[],
  request: InformationRequest,
): Promise<Map<string, string[]>> {
  const groups = new Map<string, string[]>();
  const guarded = shares.filter(({ queue, destinations }) =>
    [queue, ...destinations].some(({ attributes }) => attributes.get('acl_group_enable') === 'True'),
  );
  const users = new Set(guarded.flatMap(({ name }) => request.queues.get(name)?.users ?? []));
  if (users.size === 0) return groups;
  const { findAccount } = await import('../../util/accounts/account.ts');
  for (const user of users) {
    const account = await findAccount(user).catch(() => undefined);
    // An account that is not there is in no group.
    groups.set(user, account === undefined ? [] : [account.group, ...account.groups.map(({ name }) => name)]);
  }
  return groups;
}
