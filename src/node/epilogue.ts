// The epilogue: whatever there is of a job's guest, in whatever state, is gone when it is through. It may run
// while the prologue still runs, twice, or when nothing was made.
import { closeSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { readOutcome, sessionPaths } from '../guest/session-file.ts';
import { findProcess, processRuns } from '../hypervisor/guest-process.ts';
import type { GuestProcess, Hypervisor } from '../hypervisor/port.ts';
import type { EpilogueArguments } from '../torque/hook-arguments.ts';
import { errnoOf } from '../util/errors.ts';
import type { Log } from '../util/log.ts';
import { appendHistory } from './history.ts';
import { type JobPaths, jobPaths, readRecord, removeJobDirectory } from './record.ts';
import { undo } from './undo.ts';

export interface EpilogueOptions {
  state: string;
  hook: EpilogueArguments;
  /** For the connection that the record names: the node file may be another by now, or broken. */
  openHypervisor: (uri: string) => Hypervisor;
  log: Log;
}

/** What a prologue gets to notice that its job is over and to undo what it is about. A start of a domain in
 * libvirt cannot be stopped half-way: it must come to its end before it can be undone. */
const PROLOGUE_GRACE_MS = 8_000;

/** Removes all that the record of the job speaks of.
 * @returns whether everything is gone; what is not stays in the record. */
export async function endGuest(options: EpilogueOptions): Promise<boolean> {
  const { state, hook, log } = options;
  const begun = performance.now();
  const paths = jobPaths(state, hook.jobId);
  // Without a record there may be a prologue that has not come to make one.
  const marked = markEnded(paths);
  const prologue = (marked ? readRecord(paths)?.prologue : undefined) ?? findPrologue(hook.jobId);
  if (prologue !== undefined) await stopPrologue(prologue, log);
  // Read again: the prologue may have gone on, or have undone everything itself.
  const record = readRecord(paths);
  if (record === undefined) {
    removeJobDirectory(paths);
    return true;
  }

  const outcome = readOutcome(sessionPaths(state, hook.jobId), record.uid);
  const hypervisor = options.openHypervisor(record.uri);
  const failures = await undo({ state, paths, record, hypervisor });
  record.seconds['epilogue'] = Math.round(performance.now() - begun) / 1000;
  appendHistory(state, record, { exitStatus: hook.exitStatus, outcome });
  for (const failure of failures)
    log.write('error', `left over: ${failure.step}: ${failure.error.message}`, { code: failure.error.code });
  if (outcome?.message !== undefined) log.write('warn', outcome.message, { fault: outcome.fault });
  const ended = { exitStatus: hook.exitStatus, exitCode: outcome?.exitCode, ...record.seconds };
  if (failures.length === 0) log.write('info', 'the guest is gone', ended);
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

/** The prologue of a job by its command line: the shim (`sh …/prologue JOBID …`) or what it becomes (`node
 * vmbatch prologue [--option VALUE] … JOBID …`). Root's only: a job may name itself and its processes as it likes. */
function findPrologue(jobId: string): GuestProcess | undefined {
  return findProcess((words, uid) => {
    const shim = words[1]?.split('/').at(-1) === 'prologue' && words[2] === jobId;
    let first = 3;
    while (words[first]?.startsWith('--')) first += 2;
    return uid === 0 && (shim || (words[2] === 'prologue' && words[first] === jobId));
  });
}

async function stopPrologue(prologue: GuestProcess, log: Log): Promise<void> {
  if (!processRuns(prologue)) return;
  log.write('info', 'the job ended while its guest was being started');
  process.kill(prologue.pid, 'SIGTERM');
  const deadline = performance.now() + PROLOGUE_GRACE_MS;
  while (processRuns(prologue) && performance.now() < deadline) await sleep(20);
  if (!processRuns(prologue)) return;
  log.write('warn', 'the prologue did not end in time and is killed');
  killSession(prologue.pid);
  while (processRuns(prologue) && performance.now() < deadline + 2_000) await sleep(20);
}

/** The mom starts a hook in a session of its own, so its programs go with it. */
function killSession(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    process.kill(pid, 'SIGKILL'); // it leads no process group
  }
}
