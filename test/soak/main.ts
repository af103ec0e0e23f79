// `npm run soak`: many grid jobs through submit, a batch system with four nodes, and scan, with faults from a
// seed.
import type { ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { audit, type Leftovers } from '../site/audit.ts';
import { createGridJob, type GridJob, jalienJob, startScan, stopScan } from '../site/grid-job.ts';
import { reportStop, runProgram, UsageError } from '../site/program.ts';
import { runSheltered } from '../site/sheltered.ts';
import { type Site, startSite } from '../site/site.ts';
import { installFaults, prepareFault, strike } from './faults.ts';
import { FAULTS, type PlannedJob, planJobs, WHILE_RUNNING } from './plan.ts';

const HELP = `usage: npm run soak -- [--jobs N] [--seed S] [--minutes M] [--json]

Runs N grid jobs (default 2000) through submit-vmbatch-job, a batch system with four nodes of four slots and fake guests, and
scan-vmbatch-job. Something goes wrong with one job in twenty. Every grid job must have one lrms_done with the right code, and nothing
may be left. Stops submitting after M minutes (default 9), however many jobs are to come: two processors run some two jobs a second.
`;

const NODES = 4;
const SLOTS = 4;
/** Jobs under way: all slots, and some that wait. */
const UNDER_WAY = NODES * SLOTS + 8;
/** More than the longest that a fault takes to be noticed. */
const JOB_MS = 120_000;

interface RunningJob {
  planned: PlannedJob;
  job: GridJob;
  id: string;
  struck: boolean;
  submitted: number;
}

interface Ended {
  planned: PlannedJob;
  id: string;
  code: number | undefined;
  text: string;
  seconds: number;
  /** lrms_done: it was taken away when it was seen, and must not come back. */
  file: string;
}

async function main(argv: string[], signal: AbortSignal): Promise<number> {
  const { values } = parseArgs({
    args: argv,
    options: {
      jobs: { type: 'string', default: '2000' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      minutes: { type: 'string', default: '9' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const [count, seed, minutes] = [values.jobs, values.seed, values.minutes].map(Number);
  if (![count, seed, minutes].every((each) => each !== undefined && Number.isFinite(each) && each >= 0))
    throw new UsageError('--jobs, --seed and --minutes need numbers');
  process.stderr.write(`vmbatch: seed ${seed}\n`);
  const site = await startSite({
    directory: `/var/tmp/vmbatch-soak-${process.pid}`,
    account: 'vmbatch-soak',
    dist: join(import.meta.dirname, '../../dist'),
    guests: 'fake',
    nodes: NODES,
    slots: SLOTS,
    configuration: {
      // So many guests share few processors; they need not wait for each other.
      starts: 4 * availableParallelism(),
      timeouts: { heartbeat: '10 s', reconnect: '5 s' },
    },
    onStage: () => undefined,
    onFailure: (lines) => reportStop(lines, signal),
    signal,
  });
  try {
    const report = await soak(site, planJobs(count ?? 0, seed ?? 0), (minutes ?? 0) * 60_000, signal);
    const result = { seed, ...report };
    process.stdout.write(values.json ? `${JSON.stringify(result)}\n` : describe(result));
    return report.wrong.length === 0 && report.left.length === 0 ? 0 : 1;
  } finally {
    reportStop(await site.stop(), signal);
  }
}

interface Report {
  jobs: number;
  notRun: number;
  seconds: number;
  /** By fault (`none`: nothing went wrong): how many, and how many of them ended as they must. */
  kinds: Record<string, { jobs: number; right: number }>;
  wrong: string[];
  left: string[];
  /** Resident memory of the scan, in KiB: after a tenth of the jobs, and at the end. */
  scanMemory: { early: number; late: number };
}

async function soak(site: Site, plan: PlannedJob[], limitMs: number, signal: AbortSignal): Promise<Report> {
  installFaults(site);
  const scan = startScan(site);
  const begun = performance.now();
  const ended: Ended[] = [];
  const underWay: RunningJob[] = [];
  let early = 0;
  let next = 0;
  const submitNext = async () => {
    const planned = plan[next++];
    if (planned !== undefined) underWay.push(await submit(site, planned));
  };
  while (true) {
    signal.throwIfAborted();
    const isLate = performance.now() - begun > limitMs;
    const hasMore = next < plan.length && !isLate;
    if (!hasMore && underWay.length === 0) break;
    for (const running of [...underWay]) {
      const end = await look(site, running);
      if (end === undefined) continue;
      ended.push(end);
      underWay.splice(underWay.indexOf(running), 1);
    }
    if (early === 0 && ended.length >= plan.length / 10) early = residentKiB(scan);
    if (hasMore && underWay.length < UNDER_WAY) await submitNext();
    else await sleep(30);
  }
  const late = residentKiB(scan);
  const seconds = Math.round((performance.now() - begun) / 100) / 10;
  // What A-REX would see if one were reported twice.
  await sleep(1_000);
  await stopScan(scan);
  const left = await whatIsLeft(site);
  return {
    ...judge(ended),
    jobs: ended.length,
    notRun: plan.length - ended.length,
    seconds,
    left,
    scanMemory: { early, late },
  };
}

async function submit(site: Site, planned: PlannedJob): Promise<RunningJob> {
  const { fault, exitCode, number } = planned;
  const waits = fault !== undefined && WHILE_RUNNING.includes(fault);
  const body = waits ? 'touch started; sleep 100' : fault === 'crash' ? 'kill -SEGV $$' : 'true';
  const job = createGridJob(
    site,
    jalienJob(`#!/bin/bash\n${body}\nexit ${exitCode}\n`, { name: 'in', text: String(number) }),
  );
  // One submission at a time: the server counts from 0.
  const id = `${number}.${site.serverName}`;
  if (fault !== undefined) prepareFault(site, id, fault);
  const { localId, exitCode: code, stderr } = await job.submit();
  if (localId !== id)
    throw new Error(`job ${number} was submitted as ${localId} (exit code ${code}): ${stderr}`);
  return { planned, job, id, struck: false, submitted: performance.now() };
}

/** Strikes a job whose time has come; its end, if it has come. */
async function look(site: Site, running: RunningJob): Promise<Ended | undefined> {
  const { planned, job, id } = running;
  const { fault } = planned;
  if (fault !== undefined && WHILE_RUNNING.includes(fault) && !running.struck) {
    if (existsSync(join(job.session, 'started'))) {
      running.struck = true;
      await strike(site, id, fault);
    }
  }
  const seconds = (performance.now() - running.submitted) / 1000;
  const file = job.file('lrms_done');
  if (!existsSync(file)) {
    if (seconds * 1000 < JOB_MS) return undefined;
    return { planned, id, code: undefined, text: 'no lrms_done', seconds, file };
  }
  const [, code, text = ''] = /^(-?\d+) ?(.*)/.exec(readFileSync(file, 'utf8')) ?? [];
  // As A-REX, in the end: nothing of the job is in the control directory any more.
  rmSync(join(site.control, 'processing', `job.${job.id}.status`), { force: true });
  for (const name of readdirSync(site.control))
    if (name.startsWith(`job.${job.id}.`)) rmSync(join(site.control, name), { force: true });
  return { planned, id, code: Number(code), text, seconds, file };
}

function judge(ended: readonly Ended[]): Pick<Report, 'kinds' | 'wrong'> {
  const kinds: Report['kinds'] = {};
  const wrong: string[] = [];
  for (const { planned, id, code, text, file } of ended) {
    const name = planned.fault ?? 'none';
    const kind = kinds[name] ?? { jobs: 0, right: 0 };
    kinds[name] = kind;
    kind.jobs++;
    const isOnce = code === undefined || !existsSync(file);
    if (code === planned.expected && isOnce) kind.right++;
    else
      wrong.push(
        `${id} (${planned.fault ?? 'none'}): ${isOnce ? '' : 'reported again; '}${code} ${text}, not ${planned.expected}`,
      );
  }
  return { kinds, wrong };
}

/** After the reaper's round, as its timer has it. */
async function whatIsLeft(site: Site): Promise<string[]> {
  const path = `${join(site.directory, 'fake/bin')}:${site.env['PATH']}`;
  const left: string[] = [];
  for (const { name, nodeFile, state } of site.nodes) {
    const reaped = await runSheltered(join(site.dist, 'vmbatch'), ['reap', '--config', nodeFile], {
      env: { ...site.env, PATH: path },
    });
    if (reaped.exitCode !== 0)
      left.push(`${name}: vmbatch reap: ${reaped.stdout.trim()} ${reaped.stderr.trim()}`);
    const found = Object.entries(await audit({ ...site, state })) as [keyof Leftovers, number][];
    for (const [what, number] of found) if (number > 0) left.push(`${name}: ${number} ${what}`);
  }
  return left;
}

function residentKiB(scan: ChildProcess): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${scan.pid}/status`, 'latin1'))?.[1] ?? 0);
}

function describe({
  seed,
  jobs,
  notRun,
  seconds,
  kinds,
  wrong,
  left,
  scanMemory,
}: Report & { seed: number | undefined }): string {
  const table = new Table({
    head: ['what went wrong', 'jobs', 'ended right'],
    style: { head: [], border: [] },
  });
  for (const kind of ['none', ...FAULTS]) {
    const { jobs: of = 0, right = 0 } = kinds[kind] ?? {};
    table.push([kind, of, right]);
  }
  const lines = [
    table.toString(),
    `seed ${seed}: ${jobs} jobs in ${seconds} s (${(jobs / seconds).toFixed(1)} a second)${notRun > 0 ? `; time was up before the other ${notRun}` : ''}`,
    `memory of the scan: ${scanMemory.early} KiB after a tenth of the jobs, ${scanMemory.late} KiB at the end`,
    ...wrong.map((line) => `wrong: ${line}`),
    ...left.map((line) => `left: ${line}`),
    `jobs ${jobs} wrong ${wrong.length} left ${left.length}`,
  ];
  return `${lines.join('\n')}\n`;
}

runProgram(main, HELP);
