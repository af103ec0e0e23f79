// The record of a job on this node: what was decided for it and what exists. Each acquisition is written down
// before it happens; whoever comes later, in whatever state things were left, can undo from the record alone.
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { VmbatchError } from '../util/errors.ts';
import {
  makeDirectory,
  namesIn,
  readForeignFile,
  syncDirectory,
  writeFileAtomic,
} from '../util/files/files.ts';
import { ownState } from './owner/state-owner.ts';

/** In the order in which they are acquired; released the other way round. */
export const STEP_NAMES = [
  'ready-file',
  'peers',
  'network',
  'overlay',
  'scratch',
  'cache',
  'context',
  'turn',
  'domain',
  'boot',
  'session',
] as const;
export type StepName = (typeof STEP_NAMES)[number];

const PROCESS = z.object({ pid: z.int(), startTicks: z.int() });
const RECORD = z.object({
  version: z.literal(1),
  jobId: z.string(),
  user: z.string(),
  uid: z.int(),
  gid: z.int(),
  queue: z.string(),
  /** What it takes to undo without the node file, which may change or break meanwhile. */
  uri: z.string(),
  undoMs: z.number(),
  /** For how long the guest is kept if the job fails, and how many consoles of failed jobs are. */
  debug: z.object({ keepMs: z.number(), consoles: z.int() }).prefault({ keepMs: 0, consoles: 0 }),
  /** Set when the guest of a failed job is kept: milliseconds since 1970. */
  keptUntil: z.number().optional(),
  /** The domain's name. */
  domain: z.string(),
  nonce: z.string(),
  readyFile: z.string(),
  /** Milliseconds since 1970. */
  startedAt: z.number(),
  /** The prologue that works on it. */
  prologue: PROCESS,
  /** Which start of this machine that was in (its boot id): after another nothing runs that ran then. */
  boot: z.string().optional(),
  /** The mom's own file of the job: it is there for as long as the mom knows the job. Undefined: no mom has
   * asked for it. */
  mom: z.string().optional(),
  request: z.object({ image: z.string(), vcpus: z.int(), memoryBytes: z.int() }).optional(),
  /** What it has leased; `locks` is where. */
  locks: z.string().optional(),
  port: z.int().optional(),
  mac: z.string().optional(),
  poolAddress: z.string().optional(),
  /** Where the node reaches the guest, if its own word was needed for that. */
  address: z.string().optional(),
  cache: z.object({ image: z.string(), account: z.int().optional(), slot: z.int() }).optional(),
  /** Bytes that its disks may grow to, and whether there was found room for them. */
  space: z.object({ bytes: z.number(), granted: z.boolean() }).optional(),
  /** The guest's DHCP lease, to be given back. */
  dhcp: z.object({ address: z.string(), server: z.string() }).optional(),
  /** Its turn to boot: a file in STATE/starts. */
  ticket: z.string().optional(),
  /** Where the nodes of a job on several nodes meet, and which of them this is; 0: the first. */
  peers: z.object({ directory: z.string(), rank: z.int() }).optional(),
  /** The share of the ready file, in words, and how long a look at it may take. */
  share: z.object({ name: z.string(), lookMs: z.number() }).optional(),
  steps: z.partialRecord(z.enum(STEP_NAMES), z.enum(['acquiring', 'held', 'released'])),
  /** What the guest reported. */
  guest: z
    .object({
      hostname: z.string(),
      kernel: z.string(),
      bootId: z.string(),
      vcpus: z.int(),
      memoryKiB: z.int(),
      system: z.string(),
      notes: z.string().optional(),
    })
    .optional(),
  hypervisor: z.string().optional(),
  /** Seconds each step took; `boot` is the guest's, `prologue` all of it. */
  seconds: z.record(z.string(), z.number()),
});
export type JobRecord = z.infer<typeof RECORD>;

export interface JobPaths {
  directory: string;
  record: string;
  /** Made by the epilogue before anything else: the job is over, whatever is under way must be undone. */
  ended: string;
  overlay: string;
  scratch: string;
  contextIso: string;
  domainXml: string;
  console: string;
}

/** Title of the process that watches another node's guest; its arguments are the paths it watches, the job's
 * folder among them. */
export const WATCHER = 'vmbatch-watcher';
/** The same of the shell that sleeps until a kept guest's time is over; the job's folder is one of its words,
 * too. */
export const KEEPER = 'vmbatch-keeper';

export function jobPaths(state: string, jobId: string): JobPaths {
  const directory = join(state, 'jobs', jobId);
  const file = (name: string) => join(directory, name);
  return {
    directory,
    record: file('record.json'),
    ended: file('ended'),
    overlay: file('overlay.qcow2'),
    scratch: file('scratch.raw'),
    contextIso: file('context.iso'),
    domainXml: file('domain.xml'),
    console: file('console.log'),
  };
}

export function leaseDirectory(state: string): string {
  return join(state, 'leases');
}

/** The folders of all jobs that there are, by their ids. */
export function jobIds(state: string): string[] {
  return namesIn(join(state, 'jobs'));
}

/** Tells one start of this machine from another. */
export function bootOfMachine(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
}

/** Makes the folders of the state directory. They may be traversed, not listed: QEMU need not be root, and
 * the job starter is the job's user; every file in them has its own mode.
 * @throws VmbatchError `node` (`state-of-another-node`) */
export function prepareState(state: string): void {
  makeDirectory(state, 0o711);
  if (!statSync(state).isDirectory())
    throw new VmbatchError({
      fault: 'node',
      code: 'state-unusable',
      message: `${state} is no directory`,
      hint: 'correct state in the node file, or move what is there out of the way',
    });
  ownState(state);
  for (const path of [join(state, 'jobs'), join(state, 'sessions'), leaseDirectory(state)])
    makeDirectory(path, 0o711);
}

/** @throws VmbatchError `node` if there is a record that is not one. Undefined if there is none. */
export function readRecord(paths: JobPaths): JobRecord | undefined {
  const content = readForeignFile(paths.record, { maxBytes: 65_536, ownerUid: 0 }, 'node');
  if (content === undefined) return undefined;
  try {
    return RECORD.parse(JSON.parse(content.toString('utf8')));
  } catch (error) {
    throw new VmbatchError({
      fault: 'node',
      code: 'record-broken',
      message: `${paths.record} is not the record of a job`,
      hint: 'vmbatch reap removes what there is of the job, by its name',
      cause: error,
    });
  }
}

/** The first record of a job: on the disk with all that leads to it, whatever happens to the machine. */
export function beginRecord(paths: JobPaths, record: JobRecord): void {
  makeDirectory(paths.directory, 0o711);
  writeRecord(paths, record);
  syncDirectory(paths.directory);
  syncDirectory(join(paths.directory, '..'));
}

/** The record of a job for whoever looks at all of them; undefined: there is none, or none that can be
 * used. */
export function findRecord(state: string, jobId: string): JobRecord | undefined {
  try {
    return readRecord(jobPaths(state, jobId));
  } catch {
    return undefined; // broken, or being removed: the reaper's
  }
}

export function writeRecord(paths: JobPaths, record: JobRecord): void {
  writeFileAtomic(paths.record, JSON.stringify(record, undefined, 1), 0o600);
}

/** Whether the epilogue has begun (or is through with) what the record is about. */
export function hasEnded(paths: JobPaths): boolean {
  return existsSync(paths.ended) || !existsSync(paths.record);
}

/** Removes the job's folder, the record last: a kill in between leaves a record that says what is left. */
export function removeJobDirectory(paths: JobPaths): void {
  let names: string[];
  try {
    names = readdirSync(paths.directory);
  } catch {
    return;
  }
  for (const name of names)
    if (join(paths.directory, name) !== paths.record)
      rmSync(join(paths.directory, name), { recursive: true, force: true });
  rmSync(paths.directory, { recursive: true, force: true });
}
