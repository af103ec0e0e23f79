// The state of the stand-in's server: jobs, queues, nodes, and the files that keep them over a restart.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { type Log, nowSeconds, openAccounting, openLog } from '../common/log.ts';
import type { SitePaths } from '../common/site.ts';
import type { StandinConfig } from './config.ts';
import { endRecord, type Job } from './job.ts';

export interface Queue {
  name: string;
  attributes: Map<string, string>;
  modified: number;
}

export interface BatchNode {
  name: string;
  np: number;
  properties: string[];
  offline: boolean;
  note: string;
  /** The mom's connection while it is up. */
  socket?: Socket | undefined;
  momPid: number;
  /** The mom's last status line. */
  status: string;
}

interface Database {
  nextJob: number;
  nextRank: number;
  server: [string, string][];
  queues: { name: string; attributes: [string, string][]; modified: number }[];
  nodes: { name: string; np: number; properties: string[]; offline: boolean; note: string }[];
}

const SERVER_DEFAULTS: [string, string][] = [
  ['scheduling', 'True'],
  ['log_events', '2047'],
  ['mail_from', 'adm'],
  ['scheduler_iteration', '5'],
  ['node_check_rate', '150'],
  ['tcp_timeout', '300'],
  ['job_stat_rate', '300'],
  ['poll_jobs', 'True'],
  ['down_on_error', 'True'],
  ['mom_job_sync', 'True'],
  ['keep_completed', '300'],
  ['moab_array_compatible', 'True'],
  ['nppcu', '1'],
  ['timeout_for_job_delete', '120'],
  ['timeout_for_job_requeue', '120'],
  ['note_append_on_error', 'True'],
];

export class BatchServer {
  readonly name: string;
  readonly log: Log;
  readonly account: (type: string, id: string, text: string) => void;
  readonly jobs = new Map<string, Job>();
  readonly queues = new Map<string, Queue>();
  readonly nodes = new Map<string, BatchNode>();
  readonly attributes = new Map<string, string>(SERVER_DEFAULTS);
  readonly paths: SitePaths;
  readonly config: StandinConfig;
  nextJob = 0;
  nextRank = 1;
  /** Set by the scheduler: asks for a pass soon. */
  wake: () => void = () => undefined;

  constructor(paths: SitePaths, config: StandinConfig) {
    this.paths = paths;
    this.config = config;
    this.name = config.serverName;
    this.log = openLog(paths.serverLogs, 'PBS_Server');
    this.account = openAccounting(paths.accounting);
    const database = this.readDatabase();
    if (database === undefined) this.fromConfig();
    else this.fromDatabase(database);
    this.loadJobs();
  }

  private readDatabase(): Database | undefined {
    try {
      return JSON.parse(readFileSync(this.paths.database, 'utf8')) as Database;
    } catch {
      return undefined;
    }
  }

  private fromConfig(): void {
    const { config } = this;
    const hosts = [...new Set([this.name, 'localhost'])].join(',');
    const roots = [...new Set(['root@localhost', `root@${this.name}`])].join(',');
    this.attributes
      .set('acl_hosts', hosts)
      .set('submit_hosts', hosts)
      .set('managers', roots)
      .set('operators', roots);
    this.attributes.set('default_queue', config.queues[0]?.name ?? '');
    for (const [name, value] of Object.entries(config.server)) this.attributes.set(name, value);
    for (const { name, attributes } of config.queues) {
      const all = { enabled: 'True', started: 'True', ...attributes, queue_type: 'Execution' };
      this.queues.set(name, { name, attributes: new Map(Object.entries(all)), modified: nowSeconds() });
    }
    for (const node of config.nodes) {
      this.nodes.set(node.name, { ...node, offline: false, note: '', momPid: 0, status: '' });
    }
    this.saveDatabase();
  }

  private fromDatabase(database: Database): void {
    this.nextJob = database.nextJob;
    this.nextRank = database.nextRank;
    this.attributes.clear();
    for (const [name, value] of database.server) this.attributes.set(name, value);
    for (const queue of database.queues) {
      this.queues.set(queue.name, { ...queue, attributes: new Map(queue.attributes) });
    }
    for (const node of database.nodes) this.nodes.set(node.name, { ...node, momPid: 0, status: '' });
  }

  saveDatabase(): void {
    const database: Database = {
      nextJob: this.nextJob,
      nextRank: this.nextRank,
      server: [...this.attributes],
      queues: [...this.queues.values()].map((queue) => ({ ...queue, attributes: [...queue.attributes] })),
      nodes: [...this.nodes.values()].map(({ name, np, properties, offline, note }) => ({
        name,
        np,
        properties,
        offline,
        note,
      })),
    };
    replaceFile(this.paths.database, JSON.stringify(database));
  }

  private loadJobs(): void {
    mkdirSync(this.paths.serverJobs, { recursive: true });
    const found: Job[] = [];
    for (const name of readdirSync(this.paths.serverJobs)) {
      if (!name.endsWith('.JB')) continue;
      found.push(JSON.parse(readFileSync(join(this.paths.serverJobs, name), 'utf8')) as Job);
    }
    found.sort(
      (one, other) => one.sequence - other.sequence || (one.arrayIndex ?? 0) - (other.arrayIndex ?? 0),
    );
    for (const job of found) {
      this.jobs.set(job.id, job);
      if (job.state === 'C') this.purgeLater(job);
    }
  }

  save(job: Job): void {
    replaceFile(join(this.paths.serverJobs, `${job.id}.JB`), JSON.stringify(job));
  }

  /** Changes a job, notes when, and writes it down. */
  change(job: Job, values: Partial<Job>): void {
    Object.assign(job, values, { modified: nowSeconds() });
    this.save(job);
  }

  /** Ends a job for good; it stays visible as C for `keep_completed` seconds. */
  complete(job: Job, values: Partial<Job>): void {
    const now = Date.now();
    const totalRuntime =
      job.firstStarted === undefined ? undefined : ((now - job.firstStarted) / 1000).toFixed(6);
    this.change(job, {
      ...values,
      state: 'C',
      substate: 59,
      completed: Math.floor(now / 1000),
      ...(job.placement.length > 0 ? { totalRuntime } : {}),
    });
    this.purgeLater(job);
    this.wake();
  }

  private purgeLater(job: Job): void {
    const keep = Number(
      this.queues.get(job.queue)?.attributes.get('keep_completed') ??
        this.attributes.get('keep_completed') ??
        '0',
    );
    const left = Math.max(0, (job.completed ?? 0) + keep - Date.now() / 1000);
    setTimeout(() => {
      if (this.jobs.get(job.id) !== job) return;
      // A job deleted between two failed starts gets its E record only now, without a host.
      if (job.deleted && job.exitStatus !== undefined && job.placement.length === 0) {
        this.account('E', job.id, endRecord(job));
      }
      this.forget(job);
    }, left * 1000).unref();
  }

  /** Drops a job from memory and disk. */
  forget(job: Job): void {
    this.log('256', 'Job', job.id, `dequeuing ${job.id}  from ${job.queue}, state COMPLETE`);
    this.jobs.delete(job.id);
    rmSync(join(this.paths.serverJobs, `${job.id}.JB`), { force: true });
  }

  isManager(user: string): boolean {
    const managers = `${this.attributes.get('managers') ?? ''},${this.attributes.get('operators') ?? ''}`;
    return managers.split(',').some((entry) => entry.split('@')[0] === user);
  }
}

function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
