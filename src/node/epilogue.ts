// The epilogue: whatever there is of a job's guest, in whatever state, is gone when it is through. It may run
// while the prologue still runs, twice, or when nothing was made.
import { closeSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeConfig } from '../config/node.ts';
import { readOutcome, sessionPaths } from '../guest/session-file.ts';
import { findProcess, processRuns } from '../hypervisor/guest-process.ts';
import type { GuestProcess, Hypervisor } from '../hypervisor/port.ts';
import type { EpilogueArguments } from '../torque/hook-arguments.ts';
import { errnoOf } from '../util/errors.ts';
import type { Log } from '../util/log.ts';
import { appendHistory } from './history.ts';
import { type JobPaths, jobPaths, readRecord } from './record.ts';
import { undo } from './undo.ts';

export interface EpilogueOptions {
  config: NodeConfig;
  hook: EpilogueArguments;
  hypervisor: Hypervisor;
  log: Log;
}

/** What a prologue gets to notice that its job is over and to undo what it is about. A start of a domain in
 * libvirt cannot be stopped half-way: it must come to its end before it can be undone. */
const PROLOGUE_GRACE_MS = 8_000;

/** Removes all that the record of the job speaks of.
 * @returns whether everything is gone; what is not stays in the record. */
export async function endGuest(options: EpilogueOptions): Promise<boolean> {
  const { config, hook, log } = options;
  const begun = performance.now();
  const paths = jobPaths(config.state, hook.jobId);
  // Without a record there may be a prologue that has not come to make one.
  const marked = markEnded(paths);
  const prologue = (marked ? readRecord(paths)?.prologue : undefined) ?? findPrologue(hook.jobId);
  if (prologue !== undefined) await stopPrologue(prologue, log);
  // Read again: the prologue may have gone on, or have undone everything itself.
  const record = readRecord(paths);
  if (record === undefined) return true;

  const outcome = readOutcome(sessionPaths(config.state, hook.jobId), record.uid);
  const failures = await undo({ ...options, paths, record }, config.timeouts.epilogueMs);
  record.seconds['epilogue'] = Math.round(performance.now() - begun) / 1000;
  appendHistory(config.state, record, { exitStatus: hook.exitStatus, outcome });
  for (const failure of failures)
    log.write('error', `left over: ${failure.step}: ${failure.error.message}`, { code: failure.error.code });
  if (outcome?.message !== undefined) log.write('warn', outcome.message, { fault: outcome.fault });
  log.write('info', 'the guest is gone', {
    exitStatus: hook.exitStatus,
    exitCode: outcome?.exitCode,
    ...record.seconds,
  });
  return failures.length === 0;
}

/** Tells a prologue that may be running that the job is over. False if there is nothing of the job here. */
function markEnded(paths: JobPaths): boolean {
  try {
    closeSync(openSync(paths.ended, 'w', 0o600));
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

function findPrologue(jobId: string): GuestProcess | undefined {
  return findProcess(
    (words) => words.includes(jobId) && words.some((word) => word.split('/').at(-1) === 'prologue'),
  );
}

async function stopPrologue(prologue: GuestProcess, log: Log): Promise<void> {
  if (!processRuns(prologue)) return;
  log.write('info', 'the job ended while its guest was being started');
  process.kill(prologue.pid, 'SIGTERM');
  const deadline = performance.now() + PROLOGUE_GRACE_MS;
  while (processRuns(prologue) && performance.now() < deadline) await sleep(20);
  if (!processRuns(prologue)) return;
  log.write('warn', 'the prologue did not end in time and is killed');
  process.kill(prologue.pid, 'SIGKILL');
  while (processRuns(prologue) && performance.now() < deadline + 2_000) await sleep(20);
}
