// vmbatch epilogue [--config FILE] [--state DIR] and the eleven arguments of TORQUE's epilogue
import { existsSync } from 'node:fs';
import {
  type EpilogueArguments,
  parseEpilogueArguments,
  queueOfEpilogue,
} from '../../batch/torque/mom/hook-arguments.ts';
import { parseRank, peerJobId } from '../../guest/peers.ts';
import type { Outcome } from '../../guest/session/session-file.ts';
import { openHookLog, openHypervisor, takeHookOptions } from '../../node/environment.ts';
import { readQueueList } from '../../node/hooks/queue-list.ts';
import { leftRefusal } from '../../node/hooks/refusal-left.ts';
import { endGuest } from '../../node/life/end.ts';
import { momOfHook } from '../../node/mom.ts';
import { type JobRecord, jobPaths } from '../../node/record.ts';
import { loadNodeConfig, type NodeConfig } from '../../node-file/read.ts';
import { requireRoot } from '../../util/accounts/root.ts';
import { FAULT_OUTCOMES, toVmbatchError, type VmbatchError } from '../../util/errors.ts';
import type { Log } from '../../util/log.ts';
import { run } from '../../util/processes/run.ts';
import { exitUnlessDecided, reportError } from '../../util/program/report.ts';

const HELP = `usage: vmbatch epilogue [--config FILE] [--state DIR]
       JOBID USER GROUP NAME SESSION RESOURCES USED QUEUE ACCOUNT EXIT SCRIPT

TORQUE's epilogue, called by the shim that 'vmbatch hooks install' puts in place: destroys the guest of the job
and removes all that was made for it. Exit codes (TORQUE ignores them): 0 nothing is left, 3 something is.
`;

/** For a hypervisor that does not answer, where no node file says how long to wait. */
const VIRSH_MS = 60_000;

export async function main(argv: string[]): Promise<number> {
  if (argv[0] === '--help') {
    process.stdout.write(HELP);
    return 0;
  }
  exitUnlessDecided(FAULT_OUTCOMES.node.commandExit);
  requireRoot('epilogue');
  const { configFile, state, rest, peer } = takeHookOptions(argv);
  const given = readArguments(rest, configFile, state);
  if (given === undefined) return 0;
  const hook = peer === undefined ? given : { ...given, jobId: peerJobId(given.jobId, parseRank(peer.rank)) };
  const known = existsSync(jobPaths(state, hook.jobId).directory);
  const read = readConfig(configFile);
  const config = read instanceof Error ? undefined : read;
  // A job that has a record had a guest, whatever the node file says of its queue by now.
  const served = config?.queues ?? readQueueList(state) ?? [];
  if (!known && !served.includes(hook.queue)) return 0;
  const log = await openHookLog(config, { job: hook.jobId, state });
  // Only where there is something to undo: what is written to stderr reaches the users of other queues.
  if (read instanceof Error && known) {
    process.stderr.write(`${reportError(read)}\n`);
    log.write('error', read.message, { fault: read.fault, code: read.code, hint: read.hint });
  }
  // Read before the folder goes that it is in.
  const refusal = peer === undefined ? leftRefusal(state, hook.jobId) : undefined;
  try {
    const timeoutMs = config?.timeouts.virshMs ?? VIRSH_MS;
    const done = await endGuest({
      state,
      hook,
      log,
      openHypervisor: (uri) => openHypervisor(uri, timeoutMs),
      keeper: { node: process.execPath, vmbatch: process.argv[1] ?? 'vmbatch' },
      // What a starter says is of the first node's guest.
      ...(config === undefined || peer !== undefined
        ? {}
        : { onEnd: (record, outcome) => tellGuard(config, log, record, outcome) }),
      lookAtStarter: () => lookAtStarter(state, hook).catch(() => undefined),
      tell: (text) => process.stderr.write(`${text}\n`),
    });
    await lookForMore(configFile, state);
    return done ? 0 : FAULT_OUTCOMES.node.commandExit;
  } catch (thrown) {
    const error = toVmbatchError(thrown, 'node');
    log.write('error', reportError(error));
    throw error;
  } finally {
    if (refusal !== undefined) {
      const { deliverRefusal } = await import('../../node/hooks/refusal-delivery.ts');
      await deliverRefusal(hook, refusal, log);
    }
    await log.close();
  }
}

/** Undefined for a job that is none of ours: nothing that the mom says of it could then be refused. Without
 * an id that can be read there is no record, and only its queue can make it ours. */
function readArguments(
  argv: readonly string[],
  configFile: string,
  state: string,
): EpilogueArguments | undefined {
  try {
    return parseEpilogueArguments(argv);
  } catch (error) {
    const queue = queueOfEpilogue(argv);
    const read = readConfig(configFile);
    const served = read instanceof Error ? (readQueueList(state) ?? []) : read.queues;
    if (queue !== undefined && !served.includes(queue)) return undefined;
    throw error;
  }
}

/** Tells the guard what only the end of a job shows: whether it ran in its guest and, in prologue mode
 * `started`, whether the guest came up. A starter's word is in a file of the user's: whoever writes there
 * what is not so can bring a node as far as one of its own jobs can. */
async function tellGuard(
  config: NodeConfig,
  log: Log,
  { jobId, steps, request }: JobRecord,
  outcome: Outcome | undefined,
): Promise<void> {
  if (outcome === undefined) return;
  const { noteFault, noteSuccess } = await import('../../node/guard/watch.ts');
  const { state } = config;
  const awaited = steps.boot === undefined;
  if (outcome.exitCode !== undefined) await noteSuccess({ state, log }, awaited ? 'both' : 'run');
  if (outcome.fault !== 'node' || !(awaited || outcome.code === 'starter-unused')) return;
  const error = { code: outcome.code ?? 'guest-lost', message: outcome.message ?? 'its guest was lost' };
  const node = process.env['PBS_MSHOST'];
  await noteFault(
    { state, settings: config.guard, images: config.images.size, node, run, log },
    { jobId, image: request?.image, error },
  );
}

/** Why the mom may have started the job without us, as far as it can be seen now. */
async function lookAtStarter(
  state: string,
  { script, user }: EpilogueArguments,
): Promise<string | undefined> {
  const mom = momOfHook(script);
  if (mom === undefined) return undefined;
  const [{ refusedTo, viewStarter }, { readMomConfig }, { findAccount }] = await Promise.all([
    import('../../node/hooks/job-starter.ts'),
    import('../../batch/torque/mom/mom-config.ts'),
    import('../../util/accounts/account.ts'),
  ]);
  const view = viewStarter(readMomConfig(mom.config), state);
  const flaw = view.flaws[0] ?? (await refusedTo(await findAccount(user), view, run));
  return flaw && `${flaw.found}; ${flaw.advice}`;
}

/** What other jobs have left here is a reaper's, which this job need not wait for. */
async function lookForMore(configFile: string, state: string): Promise<void> {
  const { somethingIsLeft } = await import('../../node/reap/reap.ts');
  if (!(await somethingIsLeft(state))) return;
  const { startInBackground } = await import('../../node/background.ts');
  const words = ['reap', '--quiet', '--config', configFile, '--state', state];
  await startInBackground(process.execPath, [process.argv[1] ?? 'vmbatch', ...words]);
}

/** The node file, if it can be had: an undo goes by the record, not by it. */
function readConfig(file: string): NodeConfig | VmbatchError {
  try {
    return loadNodeConfig(file);
  } catch (error) {
    return toVmbatchError(error, 'node');
  }
}
