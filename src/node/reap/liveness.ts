// Whether a job lives: a process works on it, or TORQUE knows it. Only what is certain counts as dead.
import { existsSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { environmentOf, type ProcessEntry, processRuns } from '../../hypervisor/guest-process.ts';
import { momJobsDirectory } from '../mom-jobs.ts';
import { bootOfMachine, type JobRecord, jobPaths, WATCHER } from '../record.ts';

export type Life = { is: 'alive' | 'dead' | 'unknown'; why: string };

/** What the batch server says of a job: `running` here or elsewhere; `gone`: it is over, unknown or waits;
 * undefined: no answer. */
export type AskServer = (jobId: string) => Promise<'running' | 'gone' | undefined>;

const HOOKS: readonly string[] = ['prologue', 'epilogue', 'prologue.parallel', 'epilogue.parallel'];
/** TORQUE replaces the file of a job by taking the old name away and giving it to the new file. */
const LOOK_AGAIN_MS = 100;
/** For how long a script may be there without the mom's file. Milliseconds. */
const NEW_MS = 60_000;

/** @param record of the job; undefined: it has none, or one that cannot be read */
export async function lifeOf(
  state: string,
  jobId: string,
  record: JobRecord | undefined,
  processes: readonly ProcessEntry[],
  askServer: AskServer,
): Promise<Life> {
  if (record?.boot !== undefined && record.boot !== bootOfMachine())
    return { is: 'dead', why: 'the node has been started again since' };
  if (record !== undefined && processRuns(record.prologue))
    return { is: 'alive', why: `its prologue runs (pid ${record.prologue.pid})` };
  const worker = processes.find((entry) => worksOn(entry, state, jobId, record?.uid));
  if (worker !== undefined) return { is: 'alive', why: `a process works on it (pid ${worker.pid})` };
  // Made for something else than a batch job, if it is not of an older version: those said neither.
  if (record?.boot !== undefined && record.mom === undefined)
    return { is: 'dead', why: 'the process that made it has ended' };
  const files = momFiles(state, jobId, record);
  const [first] = files;
  if (first !== undefined && existsSync(dirname(first))) {
    if (files.some(isThere)) return { is: 'alive', why: 'the mom knows it' };
    await sleep(LOOK_AGAIN_MS);
    return files.some(isThere)
      ? { is: 'alive', why: 'the mom knows it' }
      : { is: 'dead', why: 'the mom does not know it (any more)' };
  }
  const answer = await askServer(plainId(jobId));
  if (answer === 'running') return { is: 'alive', why: 'the batch server says that it runs' };
  if (answer === 'gone') return { is: 'dead', why: 'the batch server says that it does not run' };
  return { is: 'unknown', why: 'neither the mom nor the batch server could be asked' };
}

/** The mom's file of a job, or the script of one that it has only begun: TORQUE 6.1 writes the file when
 * $jobstartblocktime has passed or the prologue has ended. A mom that is killed before that leaves the
 * script for ever. */
function isThere(file: string): boolean {
  if (existsSync(file)) return true;
  const script = statSync(file.replace(/\.JB$/, '.SC'), { throwIfNoEntry: false });
  return script !== undefined && Date.now() - script.mtimeMs < NEW_MS;
}

function momFiles(state: string, jobId: string, record: JobRecord | undefined): string[] {
  if (record?.mom !== undefined) return [record.mom];
  const directory = momJobsDirectory(state);
  if (directory === undefined) return [];
  const id = plainId(jobId);
  // Of an array's job the index stands behind a hyphen: 113-4.server.JB.
  return [id, id.replace(/\[([0-9]+)\]/, '-$1')].map((name) => join(directory, `${name}.JB`));
}

/** TORQUE's own id, also of a guest on another node than the job's first. */
function plainId(jobId: string): string {
  return jobId.replace(/\.node[0-9]+$/, '');
}

/** A hook of the job as root, as the shim or what it becomes; the shell that watches over another node's
 * guest; or the starter, which has the job's id in its environment.
 * @param owner uid of the job's user, if it is known: others may call their processes what they like */
function worksOn(
  { pid, uid, words }: ProcessEntry,
  state: string,
  jobId: string,
  owner: number | undefined,
): boolean {
  const ids = [jobId, plainId(jobId)];
  if (uid === 0) {
    if (HOOKS.includes(basename(words[1] ?? '')) && ids.includes(words[2] ?? '')) return true;
    if (words[3] === WATCHER && words.includes(jobPaths(state, jobId).directory)) return true;
    return HOOKS.includes(words[2] ?? '') && words.slice(3).some((word) => ids.includes(word));
  }
  if (owner !== undefined && uid !== owner) return false;
  return words[2] === 'run' && ids.includes(environmentOf(pid, 'PBS_JOBID') ?? '');
}
