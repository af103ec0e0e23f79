// What an earlier attempt at the same submission left behind: processes that still run, and perhaps a batch job.
import { readdirSync, readFileSync } from 'node:fs';
import type { Torque } from '../torque/commands.ts';
import { streamJobs } from '../torque/qstat.ts';
import { submissionVariable } from '../torque/qsub.ts';
import { monotonicMs, pause } from '../util/clock.ts';

/** A qsub that lives this long after its submit has hung up: TORQUE's own retries take minutes. */
const QSUB_PATIENCE_MS = 5 * 60_000;
const LOOK_MS = 50;
/** After SIGKILL. */
const DEATH_MS = 10_000;

/** Ends an earlier submit of the same grami file that still runs, and waits for its qsub to end; one that does not is killed.
 * Only processes of our own user are looked at, none that we descend from, and none that started after us: of two submits the
 * later one is the one that A-REX listens to.
 * @param gramiFile as A-REX gave it
 * @param patienceMs milliseconds that a qsub gets */
export async function settleProcesses(
  gramiFile: string,
  token: string,
  patienceMs = QSUB_PATIENCE_MS,
): Promise<void> {
  const submits = () =>
    processesWith((args) => args.includes(gramiFile) && args.some((arg) => /(^|\/)submit(-|$)/.test(arg)));
  const qsubs = () => processesWith((args) => args.includes(submissionVariable(token)));
  await end(submits);
  for (const deadline = monotonicMs() + patienceMs; monotonicMs() < deadline; await pause(LOOK_MS))
    if (qsubs().length === 0) return;
  await end(qsubs);
}

async function end(processes: () => number[]): Promise<void> {
  for (const deadline = monotonicMs() + DEATH_MS; monotonicMs() < deadline; await pause(LOOK_MS)) {
    const found = processes();
    if (found.length === 0) return;
    for (const pid of found) kill(pid);
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

/** The batch job of this submission, also one that has ended and that TORQUE still knows.
 * @throws VmbatchError `site` if TORQUE does not answer completely: then there is no saying */
export async function findSubmitted(torque: Torque, token: string): Promise<string | undefined> {
  let found: string | undefined;
  const variable = submissionVariable(token);
  await streamJobs(torque, {
    onJob: ({ id, variables }) => {
      if (variables?.split(',').includes(variable)) found = id;
    },
  });
  return found;
}

/** Living processes of our user that are neither we nor our ancestors. */
function processesWith(matches: (args: string[]) => boolean): number[] {
  const ours = ancestry();
  const before = startTime(process.pid);
  return readdirSync('/proc').flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid) || ours.has(pid)) return [];
    const args = (read(`/proc/${pid}/cmdline`) ?? '').split('\0');
    if (!matches(args)) return [];
    const status = read(`/proc/${pid}/status`) ?? '';
    const uid = Number(/^Uid:\s+(\d+)/m.exec(status)?.[1] ?? -1);
    return uid === process.getuid?.() && !/^State:\s+[ZX]/m.test(status) && startTime(pid) <= before
      ? [pid]
      : [];
  });
}

/** Clock ticks since the machine started; of a process that has ended, for ever. */
function startTime(pid: number): number {
  const stat = read(`/proc/${pid}/stat`) ?? '';
  // Behind the name, which may hold anything, it is the 20th field.
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? Number.POSITIVE_INFINITY);
}

function ancestry(): Set<number> {
  const pids = new Set<number>();
  for (let pid = process.pid; pid > 0 && !pids.has(pid); ) {
    pids.add(pid);
    pid = Number(/^PPid:\s+(\d+)/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1] ?? 0);
  }
  return pids;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined; // it has ended, or is not for us to see
  }
}
