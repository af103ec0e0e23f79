// vmbatch prologue [--config FILE] [--state DIR] and the eight arguments of TORQUE's prologue
import { loadNodeConfig, type NodeConfig } from '../config/node.ts';
import { startTicksOf } from '../hypervisor/guest-process.ts';
import { openHypervisor, openNodeLog, takeHookOptions } from '../node/environment.ts';
import { lookUpFacts } from '../node/facts.ts';
import { startGuest } from '../node/prologue.ts';
import { readQueueList, writeQueueList } from '../node/queue-list.ts';
import { noteRefusal } from '../node/refusal-note.ts';
import {
  type HookArguments,
  hookLimitMs,
  parsePrologueArguments,
  wallSecondsOf,
} from '../torque/hook-arguments.ts';
import { findAccount } from '../util/account.ts';
import { FAULT_OUTCOMES, toVmbatchError, VmbatchError } from '../util/errors.ts';
import { exitUnlessDecided, reportError } from '../util/report.ts';
import { run } from '../util/run.ts';

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
    const { configFile, state, rest } = takeHookOptions(argv);
    const hook = parsePrologueArguments(rest);
    const config = readConfig(configFile, state, hook.queue);
    if (config === undefined || !config.queues.includes(hook.queue)) return 0;
    if (config.state !== state)
      throw new VmbatchError({
        fault: 'node',
        code: 'hooks-outdated',
        message: `the hooks were installed for state: ${state}, the node file says ${config.state}`,
        hint: 'run vmbatch hooks install again',
      });
    await start(config, hook, over.signal);
    return 0;
  } catch (thrown) {
    const error = toVmbatchError(thrown, 'node');
    process.stderr.write(`${reportError(error)}\n`);
    return FAULT_OUTCOMES[error.fault].prologueExit;
  }
}

/** The node file; undefined if it is broken but this job is none of ours by the last list of queues: a slip in
 * the file must not stop the other queues of the mom. */
function readConfig(file: string, state: string, queue: string): NodeConfig | undefined {
  try {
    const config = loadNodeConfig(file);
    writeQueueList(config, file);
    return config;
  } catch (error) {
    if (readQueueList(state)?.includes(queue) === false) return undefined;
    throw error;
  }
}

/** The user is not known to this node: nobody to tell. */
async function noteFor({ user, script }: HookArguments, text: string): Promise<void> {
  const account = await findAccount(user).catch(() => undefined);
  if (account !== undefined) noteRefusal(script, account, text);
}

async function start(config: NodeConfig, hook: HookArguments, signal: AbortSignal): Promise<void> {
  const log = await openNodeLog(config.log, hook.jobId);
  try {
    const ppn = Number.parseInt(process.env['PBS_NUM_PPN'] ?? '1', 10);
    await startGuest({
      config,
      hook,
      hypervisor: openHypervisor(config.hypervisor.uri, config.timeouts.virshMs),
      log,
      run,
      facts: () => lookUpFacts(config, hook.jobId, run),
      wallSeconds: wallSecondsOf(hook.resources),
      ppn: Number.isInteger(ppn) && ppn > 0 ? ppn : 1,
      // The mom starts its hooks in its own folder, where its configuration is.
      limitMs: hookLimitMs('config') - performance.now(),
      self: { pid: process.pid, startTicks: startTicksOf(process.pid) ?? 0 },
      signal,
    });
  } catch (thrown) {
    const error = toVmbatchError(thrown, 'node');
    log.write(FAULT_OUTCOMES[error.fault].logLevel, error.message, {
      fault: error.fault,
      code: error.code,
      hint: error.hint,
      ...(error.fault === 'bug' ? { report: reportError(error) } : {}),
    });
    if (FAULT_OUTCOMES[error.fault].prologueExit === 1 && error.code !== 'job-deleted')
      await noteFor(hook, reportError(error));
    throw error;
  } finally {
    await log.close();
  }
}
