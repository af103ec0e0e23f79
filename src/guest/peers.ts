// The guests of a job on several nodes. Their nodes meet in a directory on the share, which is the job's
// user's: the first node says there what the job asks for, and each other one how its guest fares. Guests
// write into it too, and root in a guest belongs to the job: nothing in it is secret, and all of it is
// foreign text.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { type Account, performAs } from '../util/accounts/as-user.ts';
import { VmbatchError } from '../util/errors.ts';
import { type Listening, parseFile, readAnswers, replaceFile } from './peer-answers.ts';

/** Nodes of one job. More is not a job for guests that start one by one. */
export const MAX_NODES = 256;
const LOOK_MS = 200;
/** Looks in a row without the directory after which it has gone for good: other nodes may just be making
 * it. */
const GONE_LOOKS = 10;

const CALL = z.object({
  version: z.literal(1),
  jobId: z.string().max(256),
  /** Of this start of the job. */
  nonce: z.string().max(64),
  count: z.int().min(2).max(MAX_NODES),
  /** The job script's `#VMBATCH` lines. */
  directives: z.string().max(64 * 1024),
  /** The job's slots on each node, in their order; absent where an older vmbatch calls. */
  slots: z.array(z.int().min(1).max(65_536)).max(MAX_NODES).optional(),
});
/** What the first node tells the others. */
export type Call = z.infer<typeof CALL>;

/** A job's id in names of files that guests handle: without the brackets of an array, which mean something to
 * a shell. */
export function shareName(jobId: string): string {
  return jobId.replaceAll(/[[\]]/g, '-');
}

/** The directory of a job's guests. */
export function peersDirectory(readyDirectory: string, jobId: string): string {
  return join(readyDirectory, `${shareName(jobId)}.guests`);
}

/** The id under which another node than the first keeps its guest of a job: leases, names and files of the
 * two are then never the same. */
export function peerJobId(jobId: string, rank: number): string {
  return `${jobId}.node${rank}`;
}

/** Makes the directory, empty: done by the other nodes, so that they see when the first one is through with
 * the job. Several of them are here at once. */
export async function preparePeers(directory: string, account: Account): Promise<void> {
  await performAs(account, [
    { do: 'remove-tree', path: directory },
    { do: 'make-directory', path: directory, emptied: false },
  ]);
}

/** Puts the call into the directory, and nothing else is in it then. */
export async function callPeers(directory: string, account: Account, call: Call): Promise<void> {
  await performAs(account, [
    { do: 'make-directory', path: directory, emptied: true },
    replaceFile(join(directory, 'call.json'), call),
  ]);
}

/** Removes the directory: the job is over, for all its nodes. */
export async function dismissPeers(directory: string, account: Account): Promise<void> {
  await performAs(account, [{ do: 'remove-tree', path: directory }]);
}

interface Waiting extends Listening {
  deadlineMs: number;
  signal: AbortSignal;
}

/** Waits for the first node's call.
 * @throws VmbatchError `node` (`peer-silent`); `job` (`job-deleted`) when the directory goes; the signal's
 * reason when aborted */
export async function waitForCall(directory: string, jobId: string, waiting: Waiting): Promise<Call> {
  const path = join(directory, 'call.json');
  const started = performance.now();
  for (
    let absent = 0;
    absent < GONE_LOOKS;
    absent = (await waiting.guard.exists(directory)) ? 0 : absent + 1
  ) {
    waiting.signal.throwIfAborted();
    if (await waiting.guard.exists(path)) {
      const call = parseFile(path, waiting.uid, CALL);
      if (call?.jobId === jobId) return call;
    }
    if (performance.now() - started > waiting.deadlineMs)
      throw new VmbatchError({
        fault: 'node',
        code: 'peer-silent',
        message: `the first node of job ${jobId} has not said what to start within ${Math.round(waiting.deadlineMs / 1000)} s`,
        hint: 'do all nodes have the same share and the same ready_directory?',
        jobId,
      });
    await pause(waiting.signal);
  }
  throw new VmbatchError({
    fault: 'job',
    code: 'job-deleted',
    message: `job ${jobId} was given up by its first node`,
    jobId,
  });
}

/** Waits until all other nodes have said that their guests are ready.
 * @param nodes names of the job's nodes, the first first
 * @returns host names of the guests, in the order of the nodes; the first is not there
 * @throws VmbatchError `node`: `peer-failed` with the other node's reason, `peer-silent` */
export async function waitForAnswers(
  directory: string,
  call: Call,
  nodes: readonly string[],
  waiting: Waiting,
): Promise<string[]> {
  const hostnames: string[] = [];
  const started = performance.now();
  for (;;) {
    waiting.signal.throwIfAborted();
    await readAnswers(directory, call, nodes, waiting, hostnames);
    const missing = nodes.filter((_node, rank) => rank > 0 && hostnames[rank] === undefined);
    if (missing.length === 0) return hostnames;
    if (performance.now() - started > waiting.deadlineMs)
      throw new VmbatchError({
        fault: 'node',
        code: 'peer-silent',
        message: `no word of a guest on ${missing.join(', ')} within ${Math.round(waiting.deadlineMs / 1000)} s`,
        hint: "is prologue.parallel in place there? 'vmbatch hooks install' puts it there",
        jobId: call.jobId,
      });
    await pause(waiting.signal);
  }
}

/** Does the first node's own work while it listens to the others: a guest that failed there, or a node that
 * died, ends it at once.
 * @param work is to end when its signal is aborted
 * @throws VmbatchError `node`: `peer-failed` with the other node's reason, `peer-silent`; or what `work`
 * throws */
export async function whilePeersFare<T>(
  directory: string,
  call: Call,
  nodes: readonly string[],
  waiting: Omit<Waiting, 'deadlineMs'>,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const done = new AbortController();
  const working = AbortSignal.any([waiting.signal, done.signal]);
  const listen = async () => {
    const hostnames: string[] = [];
    while (!working.aborted) {
      await readAnswers(directory, call, nodes, waiting, hostnames);
      await pause(working);
    }
  };
  const listening = listen().catch((failure: unknown) => {
    done.abort(failure);
    throw failure;
  });
  // Whoever is first decides; the other one is told and waited for.
  const own = work(working).finally(() => done.abort());
  const [result] = await Promise.allSettled([own, listening]);
  const reason: unknown = done.signal.reason;
  if (result.status === 'fulfilled') return result.value;
  throw reason instanceof VmbatchError ? reason : result.reason;
}

async function pause(signal: AbortSignal): Promise<void> {
  await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
}

/** Names of a job's nodes, each once, and how often each stands in the node file. */
export function nodesOf(nodeFile: string): { names: string[]; slots: number[] } {
  const counts = new Map<string, number>();
  for (const line of nodeFile.split('\n')) {
    const name = line.trim();
    if (name !== '') counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return { names: [...counts.keys()], slots: [...counts.values()] };
}

/** The node file inside a guest: the guests' names, as often as TORQUE's has their nodes. */
export function guestNodeFile(hostnames: readonly string[], slots: readonly number[]): string {
  return hostnames.map((name, index) => `${name}\n`.repeat(slots[index] ?? 1)).join('');
}

/** Which of a job's nodes this is, from `PBS_NODENUM`.
 * @throws VmbatchError `node` if the mom did not say it, or says that it is the first */
export function parseRank(text: string | undefined): number {
  if (text !== undefined && /^[1-9][0-9]{0,4}$/.test(text)) return Number(text);
  throw new VmbatchError({
    fault: 'node',
    code: 'hook-arguments',
    message: `the hook was given ${JSON.stringify(text)} as the number of the node (PBS_NODENUM)`,
    hint: 'is this another batch system, or another version of TORQUE?',
  });
}
