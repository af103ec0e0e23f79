// vmbatch epilogue [--config FILE] [--state DIR] and the eleven arguments of TORQUE's epilogue
import { existsSync } from 'node:fs';
import { loadNodeConfig, type NodeConfig } from '../config/node.ts';
import { parseRank, peerJobId } from '../guest/peers.ts';
import type { Outcome } from '../guest/session-file.ts';
import { openHypervisor, openNodeLog, takeHookOptions } from '../node/environment.ts';
import { endGuest } from '../node/epilogue.ts';
import { readQueueList } from '../node/queue-list.ts';
import { type JobRecord, jobPaths } from '../node/record.ts';
import { type EpilogueArguments, parseEpilogueArguments, queueOfEpilogue } from '../torque/hook-arguments.ts';
import { FAULT_OUTCOMES, toVmbatchError } from '../util/errors.ts';
import { type Log, NO_LOG } from '../util/log.ts';
import { exitUnlessDecided, reportError } from '../util/report.ts';
import { requireRoot } from '../util/root.ts';
import { run } from '../util/run.ts';

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
  const config = readConfig(configFile, known);
  // A job that has a record had a guest, whatever the node file says of its queue by now.
  const served = config?.queues ?? readQueueList(state) ?? [];
  if (!known && !served.includes(hook.queue)) return 0;
  const log = config === undefined ? NO_LOG : await openNodeLog(config.log, hook.jobId);
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
      tell: (text) => process.stderr.write(`${text}\n`),
    });
    await lookForMore(configFile, state);
    return done ? 0 : FAULT_OUTCOMES.node.commandExit;
  } catch (thrown) {
    const error = toVmbatchError(thrown, 'node');
    log.write('error', reportError(error));
    throw error;
  } finally {
    await log.close();
  }
}

/** Undefined for a job that is none of ours: nothing that the mom says of it could then be refused. Without an id that can be read
 * there is no record, and only its queue can make it ours. */
function readArguments(
  argv: readonly string[],
  configFile: string,
  state: string,
): EpilogueArguments | undefined {
  try {
    return parseEpilogueArguments(argv);
  } catch (error) {
    const queue = queueOfEpilogue(argv);
    const served = readConfig(configFile, false)?.queues ?? readQueueList(state) ?? [];
    if (queue !== undefined && !served.includes(queue)) return undefined;
    throw error;
  }
}

/** In prologue mode `started` it is the starter that finds out whether the guest came up. Its word is in a file of the user's: whoever
 * writes there what is not so can bring a node as far as one of its own jobs can. */
async function tellGuard(
  config: NodeConfig,
  log: Log,
  { jobId, steps, request }: JobRecord,
  outcome: Outcome | undefined,
): Promise<void> {
  if (steps.boot !== undefined || outcome === undefined) return;
  const { noteFault, noteSuccess } = await import('../node/guard/watch.ts');
  const { state } = config;
  if (outcome.exitCode !== undefined) await noteSuccess({ state, log });
  if (outcome.fault !== 'node') return;
  const error = { code: outcome.code ?? 'guest-lost', message: outcome.message ?? 'its guest was lost' };
  const node = process.env['PBS_MSHOST'];
  await noteFault(
    { state, settings: config.guard, images: config.images.size, node, run, log },
    { jobId, image: request?.image, error },
  );
}

/** What other jobs have left here is a reaper's, which this job need not wait for. */
async function lookForMore(configFile: string, state: string): Promise<void> {
  const { somethingIsLeft } = await import('../node/reap/reap.ts');
  if (!(await somethingIsLeft(state))) return;
  const { startInBackground } = await import('../node/background.ts');
  const words = ['reap', '--quiet', '--config', configFile, '--state', state];
  await startInBackground(process.execPath, [process.argv[1] ?? 'vmbatch', ...words]);
}

/** The node file, if it can be had: an undo goes by the record, not by it. Its faults are told only where there
 * is something to undo: what is written to stderr reaches the users of other queues. */
function readConfig(file: string, tell: boolean): NodeConfig | undefined {
  try {
    return loadNodeConfig(file);
  } catch (error) {
    if (tell) process.stderr.write(`${reportError(toVmbatchError(error, 'node'))}\n`);
    return undefined;
  }
}
