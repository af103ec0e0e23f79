// vmbatch prologue [--config FILE] [--state DIR] and the eight arguments of TORQUE's prologue
import { resolve } from 'node:path';
import {
  type HookArguments,
  parsePrologueArguments,
  queueOfPrologue,
  wallSecondsOf,
} from '../../batch/torque/mom/hook-arguments.ts';
import { hookLimitMs, readMomConfig } from '../../batch/torque/mom/mom-config.ts';
import { findRequestLine } from '../../guest/grant.ts';
import { parseRank, peerJobId } from '../../guest/peers.ts';
import { thisProcess } from '../../hypervisor/guest-process.ts';
import { openHookLog, openHypervisor, takeHookOptions } from '../../node/environment.ts';
import { noteSuccess } from '../../node/guard/watch.ts';
import { prologueExitOf, reportFailedStart, type StartAttempt } from '../../node/hooks/failed-start.ts';
import { mustStartJobs } from '../../node/hooks/job-starter.ts';
import { readNodeLines } from '../../node/hooks/node-lines.ts';
import { readQueueList, writeQueueList } from '../../node/hooks/queue-list.ts';
import { noteInstalled } from '../../node/installed.ts';
import { type PrologueOptions, startGuest } from '../../node/life/start.ts';
import { momOfHook } from '../../node/mom.ts';
import { foreignOwner } from '../../node/owner/state-owner.ts';
import { lookUpFacts } from '../../node/plan/facts.ts';
import { BUILT_IN_DEFAULTS } from '../../node-file/config.ts';
import { loadNodeConfig, type NodeConfig } from '../../node-file/read.ts';
import { requireRoot } from '../../util/accounts/root.ts';
import { FAULT_OUTCOMES, toVmbatchError, VmbatchError } from '../../util/errors.ts';
import { readForeignFile } from '../../util/files/files.ts';
import { run } from '../../util/processes/run.ts';
import { exitUnlessDecided, reportError } from '../../util/program/report.ts';

/** The other nodes of a job have no mom that waits: the first node's prologue does, and gives up first. */
const PEER_LIMIT_MS = 600_000;
const MAX_SCRIPT_BYTES = 64 * 1024 * 1024;

const HELP = `usage: vmbatch prologue [--config FILE] [--state DIR] JOBID USER GROUP NAME RESOURCES QUEUE ACCOUNT SCRIPT

TORQUE's prologue, called by the shim that 'vmbatch hooks install' puts in place: creates the guest of the job.
Exit codes: 0 the guest is ready (or the queue is not served), 1 the job can never run, 2 not on this node.
`;

/** Never throws: any other exit code than 0, 1 and 2 makes TORQUE retry for ever. */
export async function main(argv: string[]): Promise<number> {
  if (argv[0] === '--help') {
    process.stdout.write(HELP);
    return 0;
  }
  // What is left over then is the epilogue's to undo: TORQUE runs it after every start.
  exitUnlessDecided(FAULT_OUTCOMES.bug.prologueExit);
  // The signal may come at any moment; from here on it means: undo, then end.
  const over = new AbortController();
  process.on('SIGTERM', () => {
    const message = 'the job was deleted while its guest was being started';
    over.abort(new VmbatchError({ fault: 'job', code: 'job-deleted', message }));
  });
  const attempt: StartAttempt = { state: BUILT_IN_DEFAULTS.state, jobId: '-', isPeer: false };
  try {
    requireRoot('prologue');
    await work(argv, attempt, over.signal);
    return 0;
  } catch (thrown) {
    const error = toVmbatchError(thrown, 'node');
    process.stderr.write(`${reportError(error)}\n`);
    await reportFailedStart(attempt, error).catch(() => undefined);
    return prologueExitOf(error);
  } finally {
    await attempt.log?.close();
  }
}

async function work(argv: string[], attempt: StartAttempt, signal: AbortSignal): Promise<void> {
  const { configFile, state, rest, peer } = takeHookOptions(argv);
  attempt.state = state;
  attempt.jobId = rest[0] ?? attempt.jobId;
  attempt.isPeer = peer !== undefined;
  const queue = queueOfPrologue(rest);
  const config = readConfig(configFile, state, queue);
  // What else the mom says of other queues' jobs is nothing that could be refused.
  if (config === undefined || (queue !== undefined && !config.queues.includes(queue))) {
    if (peer === undefined) refuseOtherQueue(rest, configFile, attempt);
    return;
  }
  attempt.config = config;
  const given = parsePrologueArguments(rest);
  // In the background the id has the number of the node already.
  const hook = peer === undefined ? given : { ...given, jobId: given.jobId.replace(/\.node[0-9]+$/, '') };
  attempt.hook = hook;
  attempt.jobId = hook.jobId;
  if (config.state !== state)
    throw new VmbatchError({
      fault: 'node',
      code: 'hooks-outdated',
      message: `the hooks were installed for state: ${state}, the node file says ${config.state}`,
      hint: 'run vmbatch hooks install again',
    });
  if (foreignOwner(state) === undefined) noteInstalled(state, { log: config.log });
  if (peer === undefined) return startFirst(config, hook, attempt, signal);
  const rank = parseRank(peer.rank);
  attempt.jobId = peerJobId(hook.jobId, rank);
  if (peer.isStart) await startParallel(config, hook, rank, argv, attempt);
  else await startPeerGuest(config, hook, attempt, signal, { rank, configFile });
}

/** A job of a queue that is not served runs on the node itself, and must not if its script asks for a guest.
 * The node file may lack the queue; but a script is its owner's, so nothing of this is the node's fault.
 * @throws VmbatchError `job` */
function refuseOtherQueue(rest: readonly string[], configFile: string, attempt: StartAttempt): void {
  const [jobId = '', , , , , queue = '', , path = ''] = rest;
  const script = readForeignFile(path, { maxBytes: MAX_SCRIPT_BYTES }, 'job');
  const line = findRequestLine(script?.toString('latin1') ?? '');
  if (line === undefined) return;
  attempt.hook = parsePrologueArguments(rest);
  throw new VmbatchError({
    fault: 'job',
    code: 'queue-not-served',
    message: `line ${line} of the job script asks for a guest, and jobs of queue ${queue} get none on this node`,
    hint: `submit to a queue with guests; the site adds ${queue} to queues: of ${configFile} if it is one`,
    jobId,
  });
}

/** The node file; undefined if it is broken but this job is none of ours by the last list of queues: a slip
 * in the file must not stop the other queues of the mom. */
function readConfig(file: string, state: string, queue: string | undefined): NodeConfig | undefined {
  try {
    const config = loadNodeConfig(file);
    // What another node has in its state directory is not for us to change; jobs of ours are refused for it.
    if (foreignOwner(config.state) === undefined) writeQueueList(config, file);
    return config;
  } catch (error) {
    if (queue !== undefined && readQueueList(state)?.includes(queue) === false) return undefined;
    throw error;
  }
}

/** prologue.parallel: what an earlier start left is removed, the rest is done in the background. */
async function startParallel(
  config: NodeConfig,
  hook: HookArguments,
  rank: number,
  argv: readonly string[],
  attempt: StartAttempt,
): Promise<void> {
  // Such a job is refused by the first node's prologue.
  if (config.network.type === 'user') return;
  const [{ prepareMeeting }, { endGuest }, { startInBackground }] = await Promise.all([
    import('../../node/hooks/parallel.ts'),
    import('../../node/life/end.ts'),
    import('../../node/background.ts'),
  ]);
  const log = await openHookLog(config, { job: attempt.jobId, state: config.state });
  attempt.log = log;
  await endGuest({
    state: config.state,
    hook: { ...hook, jobId: attempt.jobId, exitStatus: 0 },
    log,
    openHypervisor: (uri) => openHypervisor(uri, config.timeouts.virshMs),
  });
  await prepareMeeting({ config, hook });
  // An epilogue finds the process by the id that it has here.
  const place = argv.indexOf('--parallel');
  const rest = argv.slice(place + 3);
  const words = [...argv.slice(0, place), '--peer', String(rank), attempt.jobId, ...rest];
  await startInBackground(process.execPath, [process.argv[1] ?? 'vmbatch', 'prologue', ...words]);
}

/** What a start needs on whichever node. */
async function optionsFor(
  config: NodeConfig,
  hook: HookArguments,
  attempt: StartAttempt,
  signal: AbortSignal,
): Promise<Omit<PrologueOptions, 'limitMs' | 'mom' | 'ppn'>> {
  const log = await openHookLog(config, { job: attempt.jobId, state: config.state });
  attempt.log = log;
  return {
    config,
    hook,
    hypervisor: openHypervisor(config.hypervisor.uri, config.timeouts.virshMs),
    log,
    run,
    facts: () => lookUpFacts(config, hook.jobId, run),
    wallSeconds: wallSecondsOf(hook.resources),
    self: thisProcess(),
    onImage: (name) => {
      attempt.image = name;
    },
    signal,
  };
}

/** What the first node's prologue has started in the background on another node. */
async function startPeerGuest(
  config: NodeConfig,
  hook: HookArguments,
  attempt: StartAttempt,
  signal: AbortSignal,
  { rank, configFile }: { rank: number; configFile: string },
): Promise<void> {
  const common = await optionsFor(config, hook, attempt, signal);
  const { jobId, user, group, jobName, resources, queue } = hook;
  const ended = [jobId, user, group, jobName, '0', resources, '', queue, '', '0', ''];
  const program = [process.execPath, process.argv[1] ?? 'vmbatch'];
  const places = ['--config', configFile, '--state', config.state, '--parallel', String(rank)];
  const { startPeer } = await import('../../node/hooks/parallel.ts');
  const options = { ...common, limitMs: PEER_LIMIT_MS, ppn: slotsSaid() };
  await startPeer(options, rank, [...program, 'epilogue', ...places, ...ended]);
  attempt.log?.succeeded();
}

/** The job's first node, or its only one. */
async function startFirst(
  config: NodeConfig,
  hook: HookArguments,
  attempt: StartAttempt,
  signal: AbortSignal,
): Promise<void> {
  const common = await optionsFor(config, hook, attempt, signal);
  const mom = momOfHook(hook.script);
  const momConfig = readMomConfig(mom?.config ?? resolve('config'));
  // TORQUE's own numbers, PBS_NUM_NODES and PBS_NUM_PPN, are wrong for nodes=HOST:ppn=4 and for
  // 1:ppn=2+HOST:ppn=4, and absent for procs=4 (setup_pelog_environment in its prolog.c). The lines of the
  // node file are right.
  const { PBS_NODEFILE: path } = process.env;
  const nodeFile = readNodeLines({ path, resources: hook.resources, log: common.log });
  await startGuest({
    ...common,
    ppn: slotsSaid(),
    limitMs: hookLimitMs(momConfig) - performance.now(),
    mom: momConfig,
    ...(mom === undefined
      ? {}
      : { checkStarter: (account) => mustStartJobs(account, { mom: momConfig, state: config.state, run }) }),
    ...(nodeFile === undefined ? {} : { peers: { nodeFile } }),
  });
  attempt.log?.succeeded();
  // In mode `started` nobody knows yet.
  if (config.prologueMode === 'ready') await noteSuccess({ state: config.state, log: common.log }, 'start');
}

/** Counts where there is no node file that can be read. */
function slotsSaid(): number {
  const ppn = Number.parseInt(process.env['PBS_NUM_PPN'] ?? '1', 10);
  return Number.isInteger(ppn) && ppn > 0 ? ppn : 1;
}
