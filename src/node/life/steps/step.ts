// What a step of a guest's start is: something acquired, and its undo. An undo works from the record alone,
// may be run twice, and leaves alone what is not the job's.

import type { KeyPair } from '../../../context/keys.ts';
import type { ResolvedGuestRequest } from '../../../guest/grant.ts';
import type { Heartbeat, LifeWatch } from '../../../guest/peer-life.ts';
import type { Call } from '../../../guest/peers.ts';
import type { ShareGuard } from '../../../guest/share/guard.ts';
import type { GuestProcess, Hypervisor } from '../../../hypervisor/port.ts';
import type { NodeConfig } from '../../../node-file/read.ts';
import type { Account } from '../../../util/accounts/account.ts';
import type { Log } from '../../../util/log.ts';
import type { Run } from '../../../util/processes/run.ts';
import type { NodeFacts } from '../../plan/facts.ts';
import type { GuestPlan } from '../../plan/plan.ts';
import type { JobPaths, JobRecord, StepName } from '../../record.ts';

/** Input of an undo. */
export interface RecordedJob {
  /** The node's state directory. */
  state: string;
  paths: JobPaths;
  record: JobRecord;
  hypervisor: Hypervisor;
}

/** Additional input of a start. */
export interface StartingJob extends RecordedJob {
  /** For what is wrong and does not end the start. */
  log: Log;
  config: NodeConfig;
  run: Run;
  account: Account;
  request: ResolvedGuestRequest;
  /** What TORQUE asked for, for Machine/Job Features. */
  wallSeconds: number | undefined;
  jobKey: KeyPair;
  hostKey: KeyPair;
  guard: ShareGuard;
  /** Undefined: the job is on this node alone. */
  role: PeerRole | undefined;
  /** What the node can do. */
  facts: NodeFacts;
  signal: AbortSignal;
  /** Milliseconds that are left until a start must be given up. */
  remainingMs: () => number;
  /** Set by the step `context`: what follows from all leases. */
  plan: GuestPlan | undefined;
  /** Set by the step `domain`. */
  guest: GuestProcess | undefined;
}

/** What this node is to a job on several nodes. */
export interface PeerRole {
  /** 0: the first node, where the job script runs. */
  rank: number;
  directory: string;
  /** What the first node tells the others; its nonce is made with the directory. */
  call: Call;
  /** Names of the nodes and their slots; known to the first alone. */
  nodes: { names: string[]; slots: number[] };
  /** A key pair for SSH between the guests, this one's. */
  key: KeyPair;
  /** Signs of life that this node gives until it has answered; not the first. */
  heartbeat?: Heartbeat;
  /** Those of the others, as the first node has seen them. */
  life?: LifeWatch;
  /** Set by the step `boot` of the first: names of the guests. */
  hostnames?: string[];
}

export interface Step {
  name: StepName;
  /** Left out of a start that has no need of it. */
  wanted?(job: StartingJob): boolean;
  acquire(job: StartingJob): Promise<void>;
  release(job: RecordedJob): Promise<void>;
}
