// What the prologue leaves for the job starter, which runs as the job's user: how to reach the guest; and
// what the starter leaves for the epilogue: how the job ended. Both files stand in a folder of root's.
import { chownSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { VmbatchError } from '../../util/errors.ts';
import { makeDirectory, readForeignFile, writeFileAtomic } from '../../util/files/files.ts';

const SESSION = z.object({
  version: z.literal(1),
  jobId: z.string(),
  host: z.string(),
  port: z.int(),
  /** The job's, with the shell and the home that are its own. */
  user: z.string(),
  /** The account by which the starter comes in. Absent: by the user's own, as an older version has it. */
  login: z.string().optional(),
  privateKey: z.string(),
  /** The only host key that is accepted. */
  hostKey: z.string(),
  /** The user's login shell: what the mom starts when the job asked for no other. */
  loginShell: z.string(),
  guest: z.object({ pid: z.int(), startTicks: z.int() }).optional(),
  connectMs: z.number(),
  reconnectMs: z.number(),
  heartbeatMs: z.number(),
  /** The guest's boot, as it reported it; unknown while it is awaited. */
  bootId: z.string().optional(),
  /** Variables that the job gets on top of the mom's: where its scratch disk and Machine/Job Features are. */
  environment: z.record(z.string(), z.string()),
  /** The node file of a job on several nodes, with the names of its guests; otherwise the mom's is for the
   * job too. */
  nodeFile: z.string().optional(),
  /** What the site's hook after the job may take; 0: there is none. */
  afterJobSeconds: z.number(),
  /** Prologue mode `started`: the guest is not up yet, and the starter waits for its ready file. */
  awaited: z
    .object({
      /** Undefined: it is asked over SSH. */
      readyFile: z.string().optional(),
      nonce: z.string(),
      /** Milliseconds since 1970 when the starter gives up. */
      until: z.number(),
      /** Whether only the ready file tells the guest's address. */
      addressUnknown: z.boolean(),
      share: z.object({ name: z.string(), lookMs: z.number() }),
    })
    .optional(),
});
/** How to reach a job's guest. Its existence means that the guest is ready, or awaited. */
export type Session = z.infer<typeof SESSION>;

const OUTCOME = z.object({
  version: z.literal(1),
  /** Of the job script, as a shell sees it: 128 + N for signal N. Absent if it could not be learnt. */
  exitCode: z.int().optional(),
  fault: z.enum(['job', 'node', 'site', 'bug']).optional(),
  message: z.string().max(2000).optional(),
  /** Seconds from the starter's start to the session, and of the job script. */
  seconds: z.object({ connect: z.number(), job: z.number() }).optional(),
  reconnects: z.int().optional(),
  /** The fault's code. */
  code: z.string().max(64).optional(),
  /** What the guest said that its job may miss, where the starter waited for it. */
  notes: z.string().max(1024).optional(),
});
/** How the job ended, in the starter's words; the mom forgets exit codes over a restart. */
export type Outcome = z.infer<typeof OUTCOME>;

export interface SessionPaths {
  directory: string;
  session: string;
  outcome: string;
}

export function sessionPaths(stateDirectory: string, jobId: string): SessionPaths {
  const directory = join(stateDirectory, 'sessions', jobId);
  return { directory, session: join(directory, 'session.json'), outcome: join(directory, 'outcome.json') };
}

/** Writes both files for the job's user. The folder stays root's, so that the user can put nothing else in
 * their place; the outcome is made empty so that the user need not create it. */
export function writeSession(
  paths: SessionPaths,
  session: Session,
  owner: { uid: number; gid: number },
): void {
  makeDirectory(paths.directory, 0o711);
  writeFileAtomic(paths.outcome, '', 0o600);
  chownSync(paths.outcome, owner.uid, owner.gid);
  // The session last: it says "ready". It must never be seen without its owner.
  writeFileAtomic(paths.session, JSON.stringify(session), 0o400, owner);
}

/** Read by the job starter, as the job's user.
 * @throws VmbatchError `node` if there is none: a prologue that was killed counts as success for TORQUE, so
 * this is where a job without a guest is stopped. */
export function readSession(paths: SessionPaths, jobId: string): Session {
  const content = readForeignFile(paths.session, { maxBytes: 32_768 }, 'node');
  const parsed = SESSION.safeParse(content === undefined ? undefined : parseJson(content));
  if (!parsed.success || parsed.data.jobId !== jobId)
    throw new VmbatchError({
      fault: 'node',
      code: content === undefined ? 'guest-absent' : 'session-refused',
      message:
        content === undefined
          ? `there is no ready guest for job ${jobId}: its prologue did not finish`
          : `${paths.session} is not a session of job ${jobId}`,
      hint: 'the log of vmbatch on this node says why',
      jobId,
    });
  return parsed.data;
}

/** Read by the epilogue, as root, from a file of the user's; undefined if it says nothing usable. */
export function readOutcome(paths: SessionPaths, ownerUid: number): Outcome | undefined {
  try {
    const content = readForeignFile(paths.outcome, { maxBytes: 8192, ownerUid }, 'job');
    if (content === undefined || content.length === 0) return undefined;
    return OUTCOME.parse(parseJson(content));
  } catch {
    return undefined; // the user's file: whatever else it holds is no fault of the node
  }
}

/** Removes the folder with both files, and what a killed prologue may have left half-written. */
export function removeSession(paths: SessionPaths): void {
  rmSync(paths.directory, { recursive: true, force: true });
}

function parseJson(content: Buffer): unknown {
  try {
    return JSON.parse(content.toString('utf8'));
  } catch {
    return undefined;
  }
}
