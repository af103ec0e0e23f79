// vmbatch prologue [--config FILE] JOBID USER GROUP NAME RESOURCES QUEUE ACCOUNT SCRIPT
import { loadNodeConfig } from '../config/node.ts';
import { startTicksOf } from '../hypervisor/guest-process.ts';
import { openNode, takeConfigOption } from '../node/environment.ts';
import { startGuest } from '../node/prologue.ts';
import { writeQueueList } from '../node/queue-list.ts';
import { hookLimitMs, parsePrologueArguments } from '../torque/hook-arguments.ts';
import { FAULT_OUTCOMES, formatError, toVmbatchError, VmbatchError } from '../util/errors.ts';
import { run } from '../util/run.ts';

const HELP = `usage: vmbatch prologue [--config FILE] JOBID USER GROUP NAME RESOURCES QUEUE ACCOUNT SCRIPT

TORQUE's prologue, called by the shim that 'vmbatch hooks install' puts in place: creates the guest of the job.
Exit codes: 0 the guest is ready (or the queue is not served), 1 the job can never run, 2 not on this node.
`;

/** Never throws: any other exit code than 0, 1 and 2 makes TORQUE retry for ever. */
export async function main(argv: string[]): Promise<number> {
  if (argv[0] === '--help') {
    process.stdout.write(HELP);
    return 0;
  }
  // The signal may come at any moment; from here on it means: undo, then end.
  const over = new AbortController();
  process.on('SIGTERM', () => {
    const [message, code] = ['the job was deleted while its guest was being started', 'job-deleted'];
    over.abort(new VmbatchError({ fault: 'job', code, message }));
  });
  // Node's own exit code for what nobody caught is 1, which would fail the job for good. What is left over is
  // the epilogue's to undo: TORQUE runs it after every start.
  process.on('uncaughtException', (thrown) => {
    process.stderr.write(`${formatError(toVmbatchError(thrown))}\n`);
    process.exit(FAULT_OUTCOMES.bug.prologueExit);
  });
  try {
    const { file, rest } = takeConfigOption(argv);
    const config = loadNodeConfig(file);
    writeQueueList(config);
    const hook = parsePrologueArguments(rest);
    if (!config.queues.includes(hook.queue)) return 0;
    const node = await openNode(config, hook.jobId);
    try {
      const ppn = Number.parseInt(process.env['PBS_NUM_PPN'] ?? '1', 10);
      // The mom starts its hooks in its own folder, where its configuration is.
      await startGuest({
        ...node,
        hook,
        run,
        ppn: Number.isInteger(ppn) && ppn > 0 ? ppn : 1,
        limitMs: hookLimitMs('config'),
        self: { pid: process.pid, startTicks: startTicksOf(process.pid) ?? 0 },
        signal: over.signal,
      });
      return 0;
    } catch (thrown) {
      const error = toVmbatchError(thrown);
      node.log.write(FAULT_OUTCOMES[error.fault].logLevel, error.message, {
        fault: error.fault,
        code: error.code,
        hint: error.hint,
        ...(error.fault === 'bug' ? { stack: error.stack } : {}),
      });
      throw error;
    } finally {
      await node.log.close();
    }
  } catch (thrown) {
    const error = toVmbatchError(thrown);
    process.stderr.write(`${formatError(error)}\n`);
    return FAULT_OUTCOMES[error.fault].prologueExit;
  }
}
