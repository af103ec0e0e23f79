// What an earlier attempt at the same submission left behind: processes that still run, and perhaps a batch
// job.
import { readdirSync, readFileSync } from 'node:fs';
import { streamJobs, type TorqueJob } from '../../batch/torque/answers/qstat.ts';
import type { Torque } from '../../batch/torque/commands.ts';
import { submissionVariable } from '../../batch/torque/qsub.ts';
import { monotonicMs, pause } from '../../util/clock.ts';
import { VmbatchError } from '../../util/errors.ts';

/** A qsub that lives this long after its submit has hung up: TORQUE's own retries take minutes. */
const QSUB_PATIENCE_MS = 5 * 60_000;
const LOOK_MS = 50;
/** After SIGKILL. */
const DEATH_MS = 10_000;

/** Ends an earlier submit of the same grami file that still runs, and waits for its qsub to end (which may
 * have started after us); one that does not is killed. Only processes of our own user are looked at, and none
 * that we descend from.
 * @param gramiFile as A-REX gave it
 * @param patienceMs milliseconds that a qsub gets
 * @throws VmbatchError `site` `submitted-twice` if a submit that started after us runs: that is the one that
 * A-REX listens to */
export async function settleProcesses(
  gramiFile: string,
  token: string,
  patienceMs = QSUB_PATIENCE_MS,
): Promise<void> {
  const submits = () =>
    processesWith((args) => args.includes(gramiFile) && args.some((arg) => /(^|\/)submit(-|$)/.test(arg)));
  if (submits().some(startedAfterUs)) throw submittedTwice(gramiFile);
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

/** For who must not go on, and must touch nothing: the other one does it all. */
export function submittedTwice(gramiFile: string): VmbatchError {
  return new VmbatchError({
    fault: 'site',
    code: 'submitted-twice',
    message: `${gramiFile}: somebody else submits this job at the same time`,
    hint: 'A-REX starts one submission of a job at a time; whoever started another one gets the batch job',
  });
}

/** The batch job of this submission, also one that has ended and that TORQUE still knows.
 * @param written an id that the job itself may have written down, or somebody for it: taken if TORQUE shows
 * the token of it, or has forgotten it
 * @throws VmbatchError `site` if TORQUE does not answer completely, or with jobs that cannot be read: then
 * there is no saying */
export async function findSubmitted(
  torque: Torque,
  token: string,
  written?: string,
): Promise<string | undefined> {
  let found: string | undefined;
  const variable = submissionVariable(token);
  const onJob = ({ id, variables }: TorqueJob) => {
    if (variables?.split(',').includes(variable)) found = id;
  };
  if (written !== undefined) {
    const unknown = await streamJobs(torque, { ids: [written], onJob });
    if (found === undefined && unknown.has(written)) return written;
  }
  let problem: string | undefined;
  const onProblem = (text: string) => {
    problem = text;
  };
  if (found === undefined) await streamJobs(torque, { onJob, onProblem });
  if (found !== undefined || problem === undefined) return found;
  throw new VmbatchError({
    fault: 'site',
    code: 'torque-answer',
    message: `${problem}; one of them may be the batch job of this submission`,
  });
}

/** Living processes of our user that are neither we nor our ancestors. */
function processesWith(matches: (args: string[]) => boolean): number[] {
  const ours = ancestry();
  return readdirSync('/proc').flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid) || ours.has(pid)) return [];
    const args = (read(`/proc/${pid}/cmdline`) ?? '').split('\0');
    if (!matches(args)) return [];
    const status = read(`/proc/${pid}/status`) ?? '';
    const uid = Number(/^Uid:\s+(\d+)/m.exec(status)?.[1] ?? -1);
    return uid === process.getuid?.() && !/^State:\s+[ZX]/m.test(status) ? [pid] : [];
  });
}

/** Of two that started within one tick of the clock, the greater number counts as the later: each must see
 * the same. */
function startedAfterUs(pid: number): boolean {
  const [time, ours] = [startTime(pid), startTime(process.pid)];
  return time > ours || (time === ours && pid > process.pid);
}

/** Clock ticks since the machine started; of a process that has ended, none. */
function startTime(pid: number): number {
  const stat = read(`/proc/${pid}/stat`) ?? '';
  // Behind the name, which may hold anything, it is the 20th field.
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? 0);
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
