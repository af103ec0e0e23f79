// What the guard of a node remembers: faults in a row, and whether the node was taken out of service.
// STATE/guard.json.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { readForeignFile, writeFileAtomic } from '../../util/files/files.ts';
import { claimJob } from '../claim.ts';
import { mustBeOwn } from '../owner/state-owner.ts';

const FAULT = z.object({
  jobId: z.string(),
  /** The image of the job's guest, if it came so far. */
  image: z.string().optional(),
  code: z.string(),
  message: z.string(),
  /** Milliseconds since 1970. */
  at: z.number(),
});
export type NodeFault = z.infer<typeof FAULT>;

const GUARD = z.object({
  version: z.literal(1),
  /** Since the last guest that started, the oldest first. */
  faults: z.array(FAULT),
  /** How TORQUE calls this node. */
  node: z.string().optional(),
  offline: z
    .object({
      since: z.number(),
      reason: z.string(),
      by: z.enum(['guard', 'admin']),
      /** `setting`: TORQUE is about to be told; `set`: it was; `refused`: it did not let us; `clearing`: it
       * is about to be told that the node is back. */
      mark: z.enum(['setting', 'set', 'refused', 'clearing']),
      /** Why TORQUE did not let us. */
      problem: z.string().optional(),
    })
    .optional(),
  /** The last self-test that failed: milliseconds since 1970, and what was wrong. */
  selfTest: z.object({ at: z.number(), problem: z.string() }).optional(),
});
export type GuardState = z.infer<typeof GUARD>;

const EMPTY: GuardState = { version: 1, faults: [] };
const MAX_BYTES = 256 * 1024;
/** Prologues that end at the same moment. */
const CLAIM_MS = 5_000;

const guardFile = (state: string) => join(state, 'guard.json');

/** Whether there is anything to remember: most of the time there is nothing. */
export function hasGuardState(state: string): boolean {
  return existsSync(guardFile(state));
}

/** What cannot be read counts for nothing: it only delays what it is for. */
export function readGuard(state: string): GuardState {
  try {
    const content = readForeignFile(guardFile(state), { maxBytes: MAX_BYTES, ownerUid: 0 }, 'node');
    return content === undefined ? { ...EMPTY } : GUARD.parse(JSON.parse(content.toString('utf8')));
  } catch {
    return { ...EMPTY };
  }
}

/** Changes the state: one process at a time.
 * @throws VmbatchError `node` (`state-of-another-node`) */
export async function changeGuard(
  state: string,
  change: (before: GuardState) => GuardState,
): Promise<GuardState> {
  mustBeOwn(state);
  // No job's id begins with a letter.
  const release = await claimJob(state, 'guard', CLAIM_MS);
  try {
    const after = change(readGuard(state));
    writeFileAtomic(guardFile(state), `${JSON.stringify(after, undefined, 1)}\n`, 0o600);
    return after;
  } finally {
    release?.();
  }
}
