// What the nodes of one job say to the first: how their guests fare, and that they live. The files are the
// job's user's, and so foreign text.
import { statSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { type Account, type FileOperation, performAs } from '../util/accounts/as-user.ts';
import { VmbatchError } from '../util/errors.ts';
import { readForeignFile } from '../util/files/files.ts';
import { printable } from '../util/log.ts';
import { type Heartbeat, type LifeWatch, lifeFile } from './peer-life.ts';
import type { Call } from './peers.ts';
import type { ShareGuard } from './share/guard.ts';

const MAX_BYTES = 128 * 1024;

const HOST_NAME = /^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$/;
const ANSWER = z.union([
  z.object({
    version: z.literal(1),
    nonce: z.string().max(64),
    node: z.string().max(256),
    hostname: z.string().regex(HOST_NAME),
  }),
  z.object({
    version: z.literal(1),
    nonce: z.string().max(64),
    node: z.string().max(256),
    error: z.string().max(4096),
  }),
]);
/** How the guest of another node fares. */
export type Answer = z.infer<typeof ANSWER>;

/** @param heartbeat ends with the answer */
export async function answerCall(
  directory: string,
  account: Account,
  rank: number,
  answer: Answer,
  heartbeat?: Heartbeat,
): Promise<void> {
  await heartbeat?.stop();
  const files = [
    answerFile(directory, rank),
    ...(heartbeat === undefined ? [] : [lifeFile(directory, rank)]),
  ];
  await performAs(
    account,
    files.map((path) => replaceFile(path, answer)),
  );
}

const answerFile = (directory: string, rank: number) => join(directory, `answer-${rank}.json`);

/** What a node that could not wait for the call says in the place of the call's nonce. */
export const UNCALLED = '';

/** The operation that puts a value into a file. */
export function replaceFile(path: string, value: object): FileOperation {
  return { do: 'replace', path, data: Buffer.from(JSON.stringify(value)).toString('latin1') };
}

/** How the first node looks at what others say. */
export interface Listening {
  guard: Pick<ShareGuard, 'exists'>;
  uid: number;
  /** What the first node has seen of the others; undefined: they are not judged. */
  life?: LifeWatch | undefined;
}

/** Looks which of the other nodes live, and which have failed already, before they are called.
 * @throws VmbatchError `node` (`peer-failed`) with the other node's reason */
export async function lookAtPeers(
  directory: string,
  call: Call,
  nodes: readonly string[],
  { guard, uid, life }: Listening,
): Promise<void> {
  for (let rank = 1; rank < call.count; rank++) {
    if (await guard.exists(lifeFile(directory, rank))) life?.expect(rank);
    if (await guard.exists(answerFile(directory, rank)))
      readAnswer(answerFile(directory, rank), call, rank, nodes, uid);
  }
}

/** Adds the guests that are ready to `hostnames`.
 * @throws VmbatchError `node`: `peer-failed` with the other node's reason, `peer-silent` for one that gives
 * no sign of life any more */
export async function readAnswers(
  directory: string,
  call: Call,
  nodes: readonly string[],
  { guard, uid, life }: Listening,
  hostnames: string[],
): Promise<void> {
  const isDue = life?.isDue === true;
  for (let rank = 1; rank < call.count; rank++) {
    if (hostnames[rank] !== undefined) continue;
    const path = answerFile(directory, rank);
    let hostname = (await guard.exists(path)) ? readAnswer(path, call, rank, nodes, uid) : undefined;
    const sign = lifeFile(directory, rank);
    if (hostname === undefined && isDue && (await guard.exists(sign))) {
      hostname = readAnswer(sign, call, rank, nodes, uid);
      life.note(rank, signOf(sign));
    }
    if (hostname !== undefined) hostnames[rank] = hostname;
  }
  if (!isDue) return;
  life.looked();
  for (let rank = 1; rank < call.count; rank++) {
    const silentMs = hostnames[rank] === undefined ? life.silentFor(rank) : undefined;
    if (silentMs === undefined) continue;
    const node = nodes[rank] ?? `number ${rank}`;
    throw new VmbatchError({
      fault: 'node',
      code: 'peer-silent',
      message: `node ${node} has given no sign of life for ${Math.round(silentMs / 1000)} s while it started its guest`,
      hint: `was vmbatch killed there (dmesg: out of memory), is the node down, or has it lost the share? see vmbatch.log on ${node}`,
      jobId: call.jobId,
    });
  }
}

/** Changes whenever the file does. It was opened just before, so nothing of this is from a cache. */
function signOf(path: string): string {
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats === undefined ? 'gone' : [stats.ino, stats.size, stats.mtimeMs, stats.ctimeMs].join(' ');
}

/** @returns the host name of the guest; undefined if this is no answer to the call
 * @throws VmbatchError `node` (`peer-failed`) with the other node's reason */
function readAnswer(
  path: string,
  call: Call,
  rank: number,
  nodes: readonly string[],
  uid: number,
): string | undefined {
  const answer = parseFile(path, uid, ANSWER);
  if (answer === undefined) return undefined;
  const failed = 'error' in answer;
  if (answer.nonce !== call.nonce && !(failed && answer.nonce === UNCALLED)) return undefined;
  if (!failed) return answer.hostname;
  throw new VmbatchError({
    fault: 'node',
    code: 'peer-failed',
    message: `the guest on node ${nodes[rank] ?? rank} failed: ${printable(answer.error)}`,
    hint: `see vmbatch.log on ${nodes[rank] ?? 'that node'}`,
    jobId: call.jobId,
  });
}

/** Undefined while it is not what it must be: it may be half of something, or an earlier start's. */
export function parseFile<T>(path: string, uid: number, schema: z.ZodType<T>): T | undefined {
  const content = readForeignFile(path, { maxBytes: MAX_BYTES, ownerUid: uid }, 'node');
  if (content === undefined) return undefined;
  try {
    return schema.parse(JSON.parse(content.toString('utf8')));
  } catch {
    return undefined;
  }
}
