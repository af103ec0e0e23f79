// vmbatch prologue [--config FILE] [--state DIR] and the eight arguments of TORQUE's prologue
import { loadNodeConfig, type NodeConfig } from '../config/node.ts';
import { BUILT_IN_DEFAULTS } from '../config/node-config.ts';
import { parseRank, peerJobId } from '../guest/peers.ts';
import { thisProcess } from '../hypervisor/guest-process.ts';
import { openHypervisor, openNodeLog, takeHookOptions } from '../node/environment.ts';
import { lookUpFacts } from '../node/facts.ts';
import { noteFault, noteSuccess } from '../node/guard/watch.ts';
import { foreignOwner } from '../node/owner/state-owner.ts';
import { type PrologueOptions, startGuest } from '../node/prologue.ts';
import { readQueueList, writeQueueList } from '../node/queue-list.ts';
import { noteRefusal } from '../node/refusal-note.ts';
import {
  type HookArguments,
  hookLimitMs,
  parsePrologueArguments,
  queueOfPrologue,
  wallSecondsOf,
} from '../torque/hook-arguments.ts';
import { findAccount } from '../util/account.ts';
import { FAULT_OUTCOMES, toVmbatchError, VmbatchError } from '../util/errors.ts';
import { readForeignFile } from '../util/files.ts';
import { NO_LOG } from '../util/log.ts';
import { exitUnlessDecided, reportError } from '../util/report.ts';
import { requireRoot } from '../util/root.ts';
import { run } from '../util/run.ts';

/** The other nodes of a job have no mom that waits: the first node's prologue does, and gives up first. */
const PEER_LIMIT_MS = 600_000;
const MAX_NODE_FILE_BYTES = 1024 * 1024;

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
    const [message, code] = ['the job was deleted while its guest was being started', 'job-deleted'];
    over.abort(new VmbatchError({ fault: 'job', code, message }));
  });
  try {
    requireRoot('prologue');
    const { configFile, state, rest, peer } = takeHookOptions(argv);
    const queue = queueOfPrologue(rest);
    const config = await readConfig(configFile, state, queue, rest[0]);
    // What else the mom says of other queues' jobs is nothing that could be refused.
    if (config === undefined || (queue !== undefined && !config.queues.includes(queue))) return 0;
    const given = parsePrologueArguments(rest);
    const isPeer = peer?.isStart === false;
    const hook = isPeer ? { ...given, jobId: given.jobId.replace(/\.node[0-9]+$/, '') } : given;
    if (config.state !== state)
      throw new VmbatchError({
        fault: 'node',
        code: 'hooks-outdated',
        message: `the hooks were installed for state: ${state}, the node file says ${config.state}`,
        hint: 'run vmbatch hooks install again',
      });
    if (peer?.isStart === true) await startParallel(config, hook, parseRank(peer.rank), argv);
    else
      await start(
        config,
        hook,
        over.signal,
        peer === undefined ? undefined : { rank: parseRank(peer.rank), configFile },
      );
    return 0;
  } catch (thrown) {
    const error = toVmbatchError(thrown, 'node');
    process.stderr.write(`${reportError(error)}\n`);
    return prologueExitOf(error);
  }
}

/** An image that the node does not have is not there at the next attempt, whoever named it. */
const prologueExitOf = ({ fault, code }: VmbatchError) =>
  code === 'image-unknown' ? FAULT_OUTCOMES.job.prologueExit : FAULT_OUTCOMES[fault].prologueExit;

/** The node file; undefined if it is broken but this job is none of ours by the last list of queues: a slip in
 * the file must not stop the other queues of the mom. */
async function readConfig(
  file: string,
  state: string,
  queue: string | undefined,
  jobId = '',
): Promise<NodeConfig | undefined> {
  try {
    const config = loadNodeConfig(file);
    // What another node has in its state directory is not for us to change; jobs of ours are refused for it.
    if (foreignOwner(config.state) === undefined) writeQueueList(config, file);
    return config;
  } catch (error) {
    if (queue !== undefined && readQueueList(state)?.includes(queue) === false) return undefined;
    // A file that is broken fails every job.
    const settings = { faults: BUILT_IN_DEFAULTS['guard.faults'], node: undefined, pbsBinPath: undefined };
    await noteFault(
      { state, settings, images: 1, node: undefined, run, log: NO_LOG },
      { jobId, image: undefined, error: toVmbatchError(error, 'node') },
    );
    throw error;
  }
}

function readNodeFile(path: string): string {
  return (
    readForeignFile(path, { maxBytes: MAX_NODE_FILE_BYTES, ownerUid: 0 }, 'node')?.toString('latin1') ?? ''
  );
}

/** The user is not known to this node: nobody to tell. */
async function noteFor({ user, script }: HookArguments, text: string): Promise<void> {
  const account = await findAccount(user).catch(() => undefined);
  if (account !== undefined) await noteRefusal(script, account, text);
}

/** prologue.parallel: what an earlier start left is removed, the rest is done in the background. */
async function startParallel(
  config: NodeConfig,
  hook: HookArguments,
  rank: number,
  argv: readonly string[],
): Promise<void> {
  // Such a job is refused by the first node's prologue.
  if (config.network.type === 'user') return;
  const [{ prepareMeeting }, { endGuest }, { startInBackground }] = await Promise.all([
    import('../node/parallel.ts'),
    import('../node/epilogue.ts'),
    import('../node/background.ts'),
  ]);
  const log = await openNodeLog(config.log, hook.jobId);
  try {
    await endGuest({
      state: config.state,
      hook: { ...hook, jobId: peerJobId(hook.jobId, rank), exitStatus: 0 },
      log,
      openHypervisor: (uri) => openHypervisor(uri, config.timeouts.virshMs),
    });
    await prepareMeeting({ config, hook });
    // An epilogue finds the process by the id that it has here.
    const place = argv.indexOf('--parallel');
    const rest = argv.slice(place + 3);
    const words = [...argv.slice(0, place), '--peer', String(rank), peerJobId(hook.jobId, rank), ...rest];
    await startInBackground(process.execPath, [process.argv[1] ?? 'vmbatch', 'prologue', ...words]);
  } finally {
    await log.close();
  }
}

async function start(
  config: NodeConfig,
  hook: HookArguments,
  signal: AbortSignal,
  peer: { rank: number; configFile: string } | undefined,
): Promise<void> {
  const log = await openNodeLog(
    config.log,
    peer === undefined ? hook.jobId : peerJobId(hook.jobId, peer.rank),
  );
  let image: string | undefined;
  try {
    const ppn = Number.parseInt(process.env['PBS_NUM_PPN'] ?? '1', 10);
    const nodeFile = process.env['PBS_NODEFILE'];
    const options: PrologueOptions = {
      config,
      hook,
      hypervisor: openHypervisor(config.hypervisor.uri, config.timeouts.virshMs),
      log,
      run,
      facts: () => lookUpFacts(config, hook.jobId, run),
      wallSeconds: wallSecondsOf(hook.resources),
      ppn: Number.isInteger(ppn) && ppn > 0 ? ppn : 1,
      // The mom starts its hooks in its own folder, where its configuration is.
      limitMs: peer === undefined ? hookLimitMs('config') - performance.now() : PEER_LIMIT_MS,
      self: thisProcess(),
      onImage: (name) => {
        image = name;
      },
      signal,
    };
    if (peer !== undefined) {
      const { jobId, user, group, jobName, resources, queue } = hook;
      const ended = [jobId, user, group, jobName, '0', resources, '', queue, '', '0', ''];
      const program = [process.execPath, process.argv[1] ?? 'vmbatch'];
      const places = ['--config', peer.configFile, '--state', config.state, '--parallel', String(peer.rank)];
      const { startPeer } = await import('../node/parallel.ts');
      await startPeer(options, peer.rank, [...program, 'epilogue', ...places, ...ended]);
      return;
    }
    // TORQUE's number is 0 where the nodes were asked for by name.
    const isAlone = nodeFile === undefined || (process.env['PBS_NUM_NODES'] ?? '1') === '1';
    const text = isAlone ? '' : readNodeFile(nodeFile);
    await startGuest({ ...options, ...(text === '' ? {} : { peers: { nodeFile: text } }) });
    // In mode `started` nobody knows yet.
    if (config.prologueMode === 'ready') await noteSuccess({ state: config.state, log });
  } catch (thrown) {
    const error = toVmbatchError(thrown, 'node');
    log.write(FAULT_OUTCOMES[error.fault].logLevel, error.message, {
      fault: error.fault,
      code: error.code,
      hint: error.hint,
      ...(error.fault === 'bug' ? { report: reportError(error) } : {}),
    });
    if (FAULT_OUTCOMES[error.fault].countsAgainstNode)
      await noteFault(
        {
          state: config.state,
          settings: config.guard,
          images: config.images.size,
          // The job's first node, as TORQUE calls it; of the others it tells no name.
          node: peer === undefined ? process.env['PBS_MSHOST'] : undefined,
          run,
          log,
        },
        { jobId: hook.jobId, image, error },
      );
    if (prologueExitOf(error) === 1 && error.code !== 'job-deleted') await noteFor(hook, reportError(error));
    throw error;
  } finally {
    await log.close();
  }
}
