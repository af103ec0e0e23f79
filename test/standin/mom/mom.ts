// `torque-standin mom`: the process that runs jobs on one node.
import { readdirSync, readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Log, openLog } from '../common/log.ts';
import { type MomToServer, onLines, type ServerToMom, send } from '../common/protocol.ts';
import { type MomPaths, makeMom, momPaths, sitePaths } from '../common/site.ts';
import { readMomConfig } from './config.ts';
import { type JobRecord, MomJob } from './job.ts';
import { statusLine } from './status.ts';

export interface MomOptions {
  home: string;
  node: string;
  /** Whether the site directory itself is this mom's. */
  first: boolean;
  /** `-q` and `-r`: running jobs of an earlier mom are killed and given back. */
  abort: boolean;
  blockStarts: boolean;
}

const RECONNECT_MS = 200;
const STATUS_MS = 15_000;

export class Mom {
  readonly paths: MomPaths;
  readonly node: string;
  readonly log: Log;
  private readonly jobs = new Map<string, MomJob>();
  private readonly options: MomOptions;
  private socket: Socket | undefined;
  private lastPoll = Date.now();
  private startQueue: Promise<void> = Promise.resolve();

  constructor(options: MomOptions) {
    this.options = options;
    this.node = options.node;
    this.paths = momPaths(options.home, options.node, options.first);
    makeMom(this.paths);
    this.log = openLog(this.paths.logs, '   pbs_mom');
  }

  /** Of another mom of the site. */
  pathsOf(node: string): MomPaths {
    const { home } = this.options;
    const { nodes } = JSON.parse(readFileSync(sitePaths(home).config, 'utf8')) as {
      nodes: { name: string }[];
    };
    return momPaths(home, node, nodes[0]?.name === node);
  }

  run(): void {
    this.log('02', 'Svr', 'Log', 'Log opened');
    for (const name of readdirSync(this.paths.jobs)) {
      if (!name.endsWith('.standin')) continue;
      const record = JSON.parse(readFileSync(join(this.paths.jobs, name), 'utf8')) as JobRecord;
      const job = new MomJob(this, record);
      this.jobs.set(job.id, job);
    }
    this.connect();
    for (const job of this.jobs.values()) job.recover(this.options.abort);
    setInterval(() => this.poll(), 500);
    setInterval(() => this.tell({ kind: 'status', status: this.status() }), STATUS_MS);
  }

  private status(): string {
    return statusLine(
      this.node,
      [...this.jobs.values()].map((job) => ({ id: job.id, session: job.record.session })),
    );
  }

  private connect(): void {
    const socket = connect(sitePaths(this.options.home).momSocket);
    socket.on('connect', () => {
      this.socket = socket;
      send(socket, {
        kind: 'hello',
        node: this.node,
        pid: process.pid,
        jobs: [...this.jobs.keys()],
        status: this.status(),
      } satisfies MomToServer);
      // Reports that the server may have missed while it was away; it answers a repeated one, too.
      for (const job of this.jobs.values()) if (job.record.phase === 'obit') job.recover(false);
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.socket = undefined;
      setTimeout(() => this.connect(), RECONNECT_MS);
    });
    onLines(socket, (line) => this.take(JSON.parse(line) as ServerToMom));
  }

  /** To the server; lost while it is away, except for obits, which are sent again. */
  tell(message: MomToServer): void {
    if (this.socket !== undefined) send(this.socket, message);
  }

  private take(message: ServerToMom): void {
    const job = this.jobs.get(message.id);
    if (message.kind === 'start')
      this.start(new MomJob(this, { message, phase: 'prologue', begun: Date.now() }));
    else if (message.kind === 'signal') job?.signal(message.signal);
    else if (message.kind === 'stray') job?.kill();
    else if (job !== undefined) {
      job.forget(message.keepOutput);
      this.jobs.delete(message.id);
    }
  }

  private start(job: MomJob): void {
    this.jobs.set(job.id, job);
    if (!this.options.blockStarts) {
      job.start();
      return;
    }
    // As TORQUE: a start keeps the mom busy until its prologue is over or $jobstartblocktime has passed.
    this.startQueue = this.startQueue.then(async () => {
      job.start();
      await Promise.race([job.started, sleep(readMomConfig(this.paths.config).jobStartBlockSeconds * 1000)]);
    });
  }

  private poll(): void {
    if (this.jobs.size === 0) return;
    if (Date.now() - this.lastPoll < readMomConfig(this.paths.config).checkPollSeconds * 1000) return;
    this.lastPoll = Date.now();
    for (const job of this.jobs.values()) {
      job.sample();
      job.checkWalltime();
    }
  }
}

/** Runs until SIGTERM, which leaves the jobs running. */
export function runMom(options: MomOptions): void {
  process.umask(0o022);
  const mom = new Mom(options);
  mom.run();
  process.on('SIGTERM', () => process.exit(0));
  process.on('SIGINT', () => process.exit(0));
}
