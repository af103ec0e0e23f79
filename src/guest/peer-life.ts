// Signs of life between the nodes of one job. A process that is killed, or a node that loses its power, says
// nothing any more; so each node but the first goes on changing a file on the share until it has answered,
// and the first node notices when that stops. It compares no times of two machines: only whether the file has
// changed, and how much time has passed here since.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Account, identityArguments } from '../util/accounts/as-user.ts';

/** How long a node may give no sign. Its share may stall for a while, and a node wrongly called dead costs a
 * job its start. */
const SILENT_MS = 30_000;
/** A mount may show changes late, by its attribute cache: as many of the longest pause that was seen are
 * waited for at least. */
const PAUSES = 4;
/** What a mount is taken to need that has not shown two signs yet. */
const UNKNOWN_PAUSE_MS = 30_000;
/** Looks of our own that came so late say that this node, or its share, has stalled: then nobody else is
 * judged by that time. */
const STALL_MS = 5_000;
/** How often the files are looked at. Opening one asks the server, whatever is cached. */
const LOOK_MS = 2_000;
/** How long an end is waited for. */
const STOP_MS = 3_000;

/** The file that a node changes. With its answer in it at the end: a node that has answered is silent, and
 * caches may still hide the answer itself, which was not there when it was first looked for. */
export function lifeFile(directory: string, rank: number): string {
  return join(directory, `alive-${rank}`);
}

/** Shell, since it beats however busy Node is. It ends with the process that started it: its parent is
 * another one then, which it can see also where nobody waits for dead children. */
const BEAT = `umask 022; beat=0
while
  while read -r key parent; do [ "$key" = PPid: ] && break; done <"/proc/$$/status"
  [ "$parent" = "$2" ]
do
  beat=$((beat + 1))
  echo "$beat" >"$1"
  sleep 2
done`;

export interface Heartbeat {
  /** When it returns, the file is not changed any more. */
  stop(): Promise<void>;
}

/** Lets a node give signs of life, as the job's user. Without the directory it waits for it. */
export function startHeartbeat(directory: string, account: Account, rank: number): Heartbeat {
  const words = ['/bin/sh', '-c', BEAT, 'vmbatch-heartbeat', lifeFile(directory, rank), String(process.pid)];
  const [program = '', ...args] = [...identityArguments(account, { dies: false }), ...words];
  const env = { PATH: process.env['PATH'] ?? '/usr/bin:/bin' };
  const child = spawn(program, args, { cwd: '/', env, stdio: 'ignore', detached: true });
  const ended = new Promise((resolve) => {
    child.once('exit', resolve);
    // Without it the node gives no signs, and is not judged.
    child.once('error', resolve);
  });
  child.unref();
  return {
    async stop() {
      const { pid } = child;
      if (pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
      child.ref();
      // With the program that it waits for. On a share that hangs it cannot even die.
      process.kill(-pid, 'SIGKILL');
      await Promise.race([ended, sleep(STOP_MS, undefined, { ref: false })]);
      child.unref();
    },
  };
}

interface Life {
  sign: string;
  seenAt: number;
  /** The longest time between two signs; undefined: there were none to compare. */
  pauseMs: number | undefined;
}

/** What the first node knows of the others' signs of life. */
export class LifeWatch {
  readonly #lives = new Map<number, Life>();
  readonly #now: () => number;
  #lookedAt: number;

  /** @param now milliseconds of this machine's own clock, which never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#lookedAt = now();
  }

  /** A node that has given a sign before anything was asked of it gives more. */
  expect(rank: number): void {
    this.#lives.set(rank, { sign: '', seenAt: this.#now(), pauseMs: undefined });
  }

  /** Whether it is time to look at the files. */
  get isDue(): boolean {
    return this.#now() - this.#lookedAt >= LOOK_MS;
  }

  /** To be called when all files were looked at. */
  looked(): void {
    const now = this.#now();
    const late = now - this.#lookedAt - LOOK_MS;
    this.#lookedAt = now;
    if (late > STALL_MS) for (const life of this.#lives.values()) life.seenAt = now;
  }

  /** @param sign what the file of a node is like now; another one is a sign of life */
  note(rank: number, sign: string): void {
    const now = this.#now();
    const life = this.#lives.get(rank);
    if (life === undefined || life.sign === '')
      this.#lives.set(rank, { sign, seenAt: now, pauseMs: undefined });
    else if (life.sign !== sign) {
      const pauseMs = Math.max(life.pauseMs ?? 0, now - life.seenAt);
      this.#lives.set(rank, { sign, seenAt: now, pauseMs });
    }
  }

  /** For how long a node has been silent that must be taken for dead; undefined: it lives, or nobody can say.
   * A node that has never given a sign is not judged: it may have an older vmbatch. Milliseconds. */
  silentFor(rank: number): number | undefined {
    const life = this.#lives.get(rank);
    if (life === undefined) return undefined;
    const silent = this.#now() - life.seenAt;
    return silent > Math.max(SILENT_MS, PAUSES * (life.pauseMs ?? UNKNOWN_PAUSE_MS)) ? silent : undefined;
  }
}
