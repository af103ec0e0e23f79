// The prologue: makes a guest for a job, step by step, or undoes what it made and says whose fault it was.
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { HookArguments } from '../../batch/torque/mom/hook-arguments.ts';
import type { MomConfig } from '../../batch/torque/mom/mom-config.ts';
import { requestedMemory, type Slots } from '../../batch/torque/requested-memory.ts';
import { refuseRoot } from '../../context/guest-account.ts';
import { generateKeyPair } from '../../context/keys.ts';
import { checkBootFiles, checkTemplateImage } from '../../guest/disk/overlay.ts';
import { parseGuestRequest, type ResolvedGuestRequest, resolveGuestRequest } from '../../guest/grant.ts';
import type { Heartbeat } from '../../guest/peer-life.ts';
import { type Call, dismissPeers, MAX_NODES, nodesOf, peersDirectory, shareName } from '../../guest/peers.ts';
import { describeShare } from '../../guest/share/describe.ts';
import { openShareGuard, type ShareGuard } from '../../guest/share/guard.ts';
import type { GuestProcess, Hypervisor } from '../../hypervisor/port.ts';
import { resolveBacking } from '../../image/layer/backing.ts';
import type { ImageConfig } from '../../node-file/config.ts';
import type { NodeConfig } from '../../node-file/read.ts';
import { type Account, findAccount } from '../../util/accounts/account.ts';
import { toVmbatchError, VmbatchError } from '../../util/errors.ts';
import { readForeignFile } from '../../util/files/files.ts';
import type { Log } from '../../util/log.ts';
import type { Run } from '../../util/processes/run.ts';
import { reserveSpace } from '../admission/disk-space.ts';
import { verifyInTime } from '../admission/image-hashes.ts';
import { mustClaimJob } from '../claim.ts';
import { consoleTail } from '../console/tail.ts';
import { appendHistory } from '../history.ts';
import { momFileOf, noteMomJobsOf } from '../mom-jobs.ts';
import type { NodeFacts } from '../plan/facts.ts';
import {
  beginRecord,
  bootOfMachine,
  hasEnded,
  type JobPaths,
  type JobRecord,
  jobPaths,
  prepareState,
  readRecord,
  removeJobDirectory,
  writeRecord,
} from '../record.ts';
import { explainLateStart } from './late-start.ts';
import type { PeerRole, StartingJob } from './steps/step.ts';
import { STEPS } from './steps/table.ts';
import { undo } from './undo.ts';

export interface PrologueOptions {
  config: NodeConfig;
  hook: HookArguments;
  /** Processors that TORQUE gave the job on this node, where no node file tells. */
  ppn: number;
  /** Milliseconds from our start after which the mom kills us. */
  limitMs: number;
  /** What the mom's configuration says of that; undefined: no mom waits for this start. */
  mom?: MomConfig | undefined;
  /** Seconds that the job may run; undefined: not known. */
  wallSeconds?: number | undefined;
  /** Looks whether the mom would start the job through our job starter, and whether that could work as the
   * job's user; undefined: no mom has asked for this guest.
   * @throws VmbatchError `node` */
  checkStarter?: ((account: Account) => Promise<void>) | undefined;
  /** Looks up what the node can do. */
  facts: () => Promise<NodeFacts>;
  hypervisor: Hypervisor;
  run: Run;
  log: Log;
  /** The process that an epilogue is to stop if the job ends meanwhile: ours. */
  self: GuestProcess;
  /** A job on several nodes, and which of them this is; undefined: it is on this one alone. */
  peers?: PeerPlace | undefined;
  /** Told the job's image as soon as it is known. */
  onImage?: (name: string) => void;
  /** Aborted when the job is over already. */
  signal: AbortSignal;
}

/** Either the first node, with TORQUE's node file, or another one with what the first has told it. */
type PeerPlace =
  | { nodeFile: string }
  | { rank: number; directory: string; call: Call; heartbeat?: Heartbeat };

/** A job script is text; the rest of a self-extracting one is not ours to read. */
const MAX_SCRIPT_BYTES = 64 * 1024 * 1024;

/** Makes the guest; when it returns the job starter finds a session.
 * @throws VmbatchError whose fault decides the prologue's exit code. Nothing is left then. */
export async function startGuest(options: PrologueOptions): Promise<JobRecord> {
  const { config, hook } = options;
  const { state } = config;
  const begun = performance.now();
  prepareState(state);
  noteMomJobsOf(state, hook.script);
  const paths = jobPaths(state, hook.jobId);
  // A reaper may still be at what an earlier start of the job left.
  const waitMs = Math.min(options.limitMs / 2, config.timeouts.epilogueMs);
  const release = await mustClaimJob(state, hook.jobId, waitMs, options.signal);
  try {
    await undoEarlierStart(options, paths);
    return await startClaimed(options, paths, begun);
  } finally {
    release();
  }
}

async function startClaimed(options: PrologueOptions, paths: JobPaths, begun: number): Promise<JobRecord> {
  const { config, hook, log, limitMs, hypervisor } = options;
  const { state } = config;
  const account = await findAccount(hook.user);
  const record = newRecord(options, account);
  const secondsSince = () => Math.round(performance.now() - begun) / 1000;
  // Time to undo must be left before the mom kills us.
  const giveUpAt = limitMs - Math.min(15_000, limitMs / 4);
  const remainingMs = () => Math.max(100, giveUpAt - (performance.now() - begun));
  const guard = openShareGuard(describeShare(config.share), config.timeouts.shareMs);
  try {
    await options.checkStarter?.(account);
    const { request, role } = decideRequest(options, account);
    record.request = { image: request.imageName, vcpus: request.vcpus, memoryBytes: request.memoryBytes };
    beginRecord(paths, record);
    log.write('info', `starting a guest for ${hook.user}`, { queue: hook.queue, ...record.request });
    const { scratchBytes, image } = request;
    const limits = { remainingMs: remainingMs(), signal: options.signal };
    await verifyInTime(image, state, options, remainingMs);
    await reserveSpace(config, paths, record, image.diskBytes + scratchBytes, limits);
    await acquireAll({
      ...options,
      state,
      paths,
      record,
      account,
      request,
      jobKey: generateKeyPair(image.sshKeys),
      hostKey: generateKeyPair(image.sshKeys),
      wallSeconds: options.wallSeconds,
      guard,
      role,
      facts: await options.facts(),
      remainingMs,
      plan: undefined,
      guest: undefined,
    });
    record.seconds['prologue'] = secondsSince();
    writeRecord(paths, record);
    const notes = record.guest?.notes;
    if (notes !== undefined) log.write('warn', `the guest is ready, but says: ${notes}`);
    log.write('info', 'the guest is ready', record.seconds);
    return record;
  } catch (thrown) {
    const error = toVmbatchError(thrown, 'node');
    record.seconds['prologue'] = secondsSince();
    // The guest's last words, before its console goes.
    const said = consoleTail(paths.console);
    await tellOthers(options, account, guard);
    const failures = await undo({ state, paths, record, hypervisor });
    for (const failure of failures)
      log.write('error', `left over: ${failure.step}: ${failure.error.message}`, {
        code: failure.error.code,
      });
    try {
      appendHistory(state, record, { fault: error.fault, code: error.code, message: error.message });
    } catch (failure) {
      // On a full disk: what came first is what the admin is to read.
      log.write('info', `the history lacks this guest: ${toVmbatchError(failure, 'node').message}`);
    }
    const { mom } = options;
    throw explainLateStart(error, { mom, giveUpAt, readyMs: config.timeouts.readyMs, said });
  } finally {
    guard.close();
  }
}

/** The other nodes of a job wait where they meet, also if the first has not come so far as to call them. */
async function tellOthers(
  { config, hook, peers }: PrologueOptions,
  account: Account,
  guard: ShareGuard,
): Promise<void> {
  if (peers === undefined || 'rank' in peers || nodesOf(peers.nodeFile).names.length < 2) return;
  const directory = peersDirectory(config.readyDirectory, hook.jobId);
  try {
    if (await guard.exists(directory)) await dismissPeers(directory, account);
  } catch {
    // Such as a share that hangs; they give up by themselves.
  }
}

/** TORQUE may start a job again on the same node, and a mom may have been killed in between. */
async function undoEarlierStart(options: PrologueOptions, paths: JobPaths): Promise<void> {
  if (!existsSync(paths.directory)) return;
  const record = readRecord(paths);
  // Without a record nothing was acquired; an epilogue's mark may stand there.
  if (record === undefined) return removeJobDirectory(paths);
  options.log.write('warn', 'undoing what an earlier start of this job left');
  const [failure] = await undo({ ...options, state: options.config.state, paths, record });
  if (failure !== undefined) throw failure.error;
}

function newRecord({ hook, config, self }: PrologueOptions, account: Account): JobRecord {
  const nonce = randomBytes(12).toString('hex');
  return {
    version: 1,
    jobId: hook.jobId,
    user: account.name,
    uid: account.uid,
    gid: account.gid,
    queue: hook.queue,
    uri: config.hypervisor.uri,
    undoMs: config.timeouts.epilogueMs,
    debug: { keepMs: config.debug.keepOnFailureMs, consoles: config.debug.consoles },
    domain: `vmbatch-${hook.jobId}`,
    nonce,
    readyFile: join(config.readyDirectory, `${shareName(hook.jobId)}.${nonce}`),
    share: { name: describeShare(config.share), lookMs: config.timeouts.shareMs },
    startedAt: Date.now(),
    prologue: self,
    boot: bootOfMachine(),
    mom: momFileOf(hook.script),
    steps: {},
    seconds: {},
  };
}

/** All checks come first: nothing is acquired for a job that cannot run here. */
function decideRequest(
  options: PrologueOptions,
  account: Account,
): { request: ResolvedGuestRequest; role: PeerRole | undefined } {
  const { config, hook, peers } = options;
  const script =
    peers !== undefined && 'rank' in peers ? peers.call.directives : readScript(options, account);
  const asked = parseGuestRequest(script, `job script of ${hook.jobId}`);
  const slots = slotsOf(options);
  const request = resolveGuestRequest(asked, config, {
    ppn: slots.here,
    memory: requestedMemory(hook.resources, slots),
    queue: hook.queue,
    groups: [account.group, ...account.groups.map(({ name }) => name)],
  });
  options.onImage?.(request.imageName);
  const role = decideRole(options, script, request.image);
  checkTemplateImage(request.imageName, request.image.path, request.image.format);
  checkBootFiles(request.imageName, request.image.boot);
  resolveBacking(config.state, request.image);
  refuseRoot(account);
  return { request, role };
}

/** Of a job on several nodes the first node's file tells, which the call carries to the others. */
function slotsOf({ ppn, peers }: PrologueOptions): Slots {
  if (peers === undefined) return { here: ppn, all: ppn };
  const slots = 'rank' in peers ? peers.call.slots : nodesOf(peers.nodeFile).slots;
  if (slots === undefined) return { here: ppn, all: ppn * ('rank' in peers ? peers.call.count : 1) };
  const here = slots['rank' in peers ? peers.rank : 0] ?? ppn;
  return { here, all: slots.reduce((sum, count) => sum + count, 0) };
}

function decideRole(
  { config, hook, peers }: PrologueOptions,
  script: string,
  { sshKeys }: ImageConfig,
): PeerRole | undefined {
  if (peers === undefined) return undefined;
  if ('rank' in peers) return { ...peers, nodes: { names: [], slots: [] }, key: generateKeyPair(sshKeys) };
  const nodes = nodesOf(peers.nodeFile);
  const count = nodes.names.length;
  if (count < 2) return undefined;
  const why =
    config.network.type === 'user'
      ? 'guests here have networks of their own (network.type user) and could not reach each other'
      : count > MAX_NODES
        ? `at most ${MAX_NODES} are possible`
        : undefined;
  if (why !== undefined)
    throw new VmbatchError({
      fault: 'job',
      code: 'several-nodes',
      message: `job ${hook.jobId} asks for ${count} nodes: ${why}`,
      hint: 'ask for one node with more processors (nodes=1:ppn=N)',
    });
  const directives = (script.slice(0, 65_536).match(/^#VMBATCH.*$/gm) ?? []).join('\n');
  return {
    rank: 0,
    directory: peersDirectory(config.readyDirectory, hook.jobId),
    call: { version: 1, jobId: hook.jobId, nonce: '', count, directives, slots: nodes.slots },
    nodes,
    key: generateKeyPair(sshKeys),
  };
}

function readScript({ hook }: PrologueOptions, account: Account): string {
  const bounds = { maxBytes: MAX_SCRIPT_BYTES, ownerUid: account.uid, tooLarge: 'job' as const };
  const script = readForeignFile(hook.script, bounds, 'node');
  // Of an interactive job the mom has the path alone.
  if (script === undefined)
    throw new VmbatchError({
      fault: 'job',
      code: 'interactive-job',
      message: `job ${hook.jobId} has no job script: interactive jobs (qsub -I) cannot run in a guest`,
      hint: `submit a script; a queue without guests takes interactive jobs`,
    });
  return script.toString('latin1');
}

async function acquireAll(job: StartingJob): Promise<void> {
  const { paths, record } = job;
  for (const step of STEPS) {
    throwIfOver(job);
    if (step.wanted?.(job) === false) continue;
    record.steps[step.name] = 'acquiring';
    writeRecord(paths, record);
    const begun = performance.now();
    await step.acquire(job);
    record.seconds[step.name] = Math.round(performance.now() - begun) / 1000;
    throwIfOver(job);
    record.steps[step.name] = 'held';
  }
}

/** qdel does not stop a prologue: TORQUE runs the epilogue beside it, and the epilogue must win. */
function throwIfOver({ paths, record, signal }: StartingJob): void {
  if (!signal.aborted && !hasEnded(paths)) return;
  throw new VmbatchError({
    fault: 'job',
    code: 'job-deleted',
    message: `job ${record.jobId} was deleted while its guest was being started`,
    jobId: record.jobId,
  });
}
