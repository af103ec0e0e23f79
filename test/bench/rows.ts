// What is measured: each row of the table in docs/performance.md.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { GridJob } from './job-files.ts';
import { compare, environment, median, usageOf } from './measure.ts';
import { processesOf } from './processes.ts';
import { makeSite, makeSubmission, type Site, type SiteOptions } from './site.ts';

export interface Context {
  /** Folder of the built program. */
  program: string;
  /** How often a row is measured, of `usual` times. */
  turns: (usual: number) => number;
}

/** One figure. */
export interface Figure {
  what: string;
  ours: number;
  unit: 'ms' | 's' | 'MiB' | 'processes' | 'times';
  /** What it is compared with, if with anything. */
  reference?: { what: string; value: number };
  /** What must not be exceeded: the ratio if there is a reference, else `ours`. */
  value: number;
  must: number;
}

export interface Row {
  name: string;
  about: string;
  measure: (context: Context) => Promise<Figure[]> | Figure[];
}

const ARC = '/usr/share/arc';

/** ARC's own backend, found where it is installed. */
const arcBackend = (name: string) => join(ARC, `${name}-pbs-job`);
const ourBackend = ({ program }: Context, name: string) =>
  join(program, 'arc-backend', `${name}-vmbatch-job`);

function withSite<T>(options: SiteOptions, work: (site: Site) => T): T {
  const site = makeSite(options);
  let result: T;
  try {
    result = work(site);
  } catch (error) {
    site.remove();
    throw error;
  }
  if (!(result instanceof Promise)) site.remove();
  return result;
}

const path = ({ bin }: Site) => ({ PATH: `${bin}:${process.env['PATH']}` });

const ratio = (
  what: string,
  { ours, reference, ratio: value }: { ours: number; reference: number; ratio: number },
  against: string,
  must: number,
): Figure => ({ what, ours, unit: 'ms', reference: { what: against, value: reference }, value, must });

const submit: Row = {
  name: 'submit',
  about: 'a typical job (2 variables, 1 RTE, 10 output files), CPU of the process tree',
  measure: (context) =>
    withSite({ jobs: 0, ended: 0 }, (site) => {
      const grami = makeSubmission(site);
      const submission = (script: string, conf: string) => () => {
        const file = grami();
        const { cpuMs } = usageOf(
          { argv: [script, '--config', conf, file], env: path(site), asUser: true },
          site.scratch,
        );
        if (!/^joboption_jobid='?4711\.bench'?$/m.test(readFileSync(file, 'utf8')))
          throw new Error(
            `${script} left no job id in ${file}:\n${readFileSync(`${site.scratch}/stderr`, 'utf8')}`,
          );
        return cpuMs;
      };
      const both = compare(
        context.turns(15),
        submission(ourBackend(context, 'submit'), site.ours),
        submission(arcBackend('submit'), site.theirs),
      );
      return [ratio('submit', both, "ARC's submit-pbs-job", 1 / 4)];
    }),
};

const cancel: Row = {
  name: 'cancel',
  about: 'cancel, CPU of the process tree',
  measure: (context) =>
    withSite({ jobs: 1, ended: 0 }, (site) => {
      const grami = join(site.control, `job.${site.jobs[0]?.gridId}.grami`);
      const cancellation = (script: string, conf: string) => () =>
        usageOf({ argv: [script, '--config', conf, grami], env: path(site), asUser: true }, site.scratch)
          .cpuMs;
      const both = compare(
        context.turns(15),
        cancellation(ourBackend(context, 'cancel'), site.ours),
        cancellation(arcBackend('cancel'), site.theirs),
      );
      return [ratio('cancel', both, "ARC's cancel-pbs-job", 1 / 3)];
    }),
};

const processes: Row = {
  name: 'processes',
  about: 'processes started by a submit; by a scan pass in which 10 and 100 jobs ended (needs strace)',
  measure: (context) => {
    const figures: Figure[] = [];
    const add = (what: string, ours: number | undefined, theirs: number | undefined, must: number) => {
      if (ours === undefined) return;
      figures.push({
        what,
        ours,
        unit: 'processes',
        value: ours,
        must,
        ...(theirs === undefined ? {} : { reference: { what: "ARC's", value: theirs } }),
      });
    };
    withSite({ jobs: 1, ended: 0 }, (site) => {
      const grami = makeSubmission(site);
      const count = (script: string, conf: string) =>
        processesOf({ argv: [script, '--config', conf, grami()], env: path(site) }, site);
      add(
        'submit',
        count(ourBackend(context, 'submit'), site.ours),
        count(arcBackend('submit'), site.theirs),
        4,
      );
    });
    for (const ended of [10, 100])
      withSite({ jobs: 200, ended, logs: true }, (site) => {
        const argv = [ourBackend(context, 'scan'), '--config', site.ours, '--once', site.control];
        add(`scan, ${ended} jobs ended`, processesOf({ argv, env: path(site) }, site), undefined, 5);
      });
    return figures;
  },
};

const start: Row = {
  name: 'start',
  about: 'the executable itself (`vmbatch --version`), CPU',
  measure: (context) =>
    withSite({ jobs: 0, ended: 0 }, (site) => {
      const cpu = (argv: string[]) => () => usageOf({ argv }, site.scratch).cpuMs;
      const both = compare(
        context.turns(25),
        cpu([join(context.program, 'vmbatch'), '--version']),
        cpu([process.execPath, '-e', '0']),
      );
      return [ratio('vmbatch --version', both, 'node -e 0', 1.25)];
    }),
};

/** CPU milliseconds of one pass from scratch, in which every job that ended must be reported. */
function pass(site: Site, argv: readonly string[], allowed?: readonly number[]): number {
  site.reset();
  const { cpuMs } = usageOf(
    { argv, env: path(site), ...(allowed === undefined ? {} : { allowed }) },
    site.scratch,
  );
  const wanted = site.jobs.filter(({ state }) => state === 'C').length;
  const found = site.reported().length;
  if (found !== wanted)
    throw new Error(
      `${argv.join(' ')}: reported ${found} jobs, should have been ${wanted}\n${readFileSync(`${site.scratch}/stderr`, 'utf8').slice(0, 2000)}`,
    );
  return cpuMs;
}

const ourPass = (context: Context, site: Site) => [
  ourBackend(context, 'scan'),
  '--config',
  site.ours,
  '--once',
  site.control,
];

const scanAgainstArc = (logs: boolean, must: number): Row => ({
  name: logs ? 'scan-log' : 'scan-qstat',
  about: `one scan pass over 1,000 jobs in INLRMS, 100 just ended, by ${logs ? "TORQUE's log" : 'qstat'}, CPU`,
  measure: (context) =>
    withSite({ jobs: 1_000, ended: 100, logs }, (site) => {
      const theirs = [arcBackend('scan'), '--config', site.theirs, site.control];
      const both = compare(
        context.turns(1),
        () => pass(site, ourPass(context, site)),
        () => pass(site, theirs, [0, 1]),
      );
      return [ratio(`scan of 1,000 jobs by ${logs ? 'log' : 'qstat'}`, both, "ARC's scan-pbs-job", must)];
    }),
});

const growth: Row = {
  name: 'scan-10000',
  about: 'the same pass with 10,000 jobs, 1,000 just ended, CPU; against our own with 1,000',
  measure: (context) => {
    const figures: Figure[] = [];
    for (const logs of [true, false])
      withSite({ jobs: 1_000, ended: 100, logs }, (small) =>
        withSite({ jobs: 10_000, ended: 1_000, logs }, (large) => {
          const both = compare(
            context.turns(3),
            () => pass(large, ourPass(context, large)),
            () => pass(small, ourPass(context, small)),
          );
          const by = logs ? 'log' : 'qstat';
          figures.push(ratio(`scan of 10,000 jobs by ${by}`, both, 'ours with 1,000', 12));
        }),
      );
    return figures;
  },
};

const large: Row = {
  name: 'scan-50000',
  about: 'the same pass with 50,000 jobs, 5,000 just ended: completes, and takes how much memory',
  measure: (context) => {
    const figures: Figure[] = [];
    for (const logs of [true, false])
      withSite({ jobs: 50_000, ended: 5_000, logs }, (site) => {
        const file = join(site.scratch, 'memory');
        const cpuMs = pass(site, ['/usr/bin/time', '-f', '%M', '-o', file, ...ourPass(context, site)]);
        const mebibytes = Number(readFileSync(file, 'utf8').trim().split('\n').at(-1)) / 1024;
        const what = `memory at 50,000 jobs by ${logs ? 'log' : 'qstat'} (${(cpuMs / 1000).toFixed(1)} s of CPU)`;
        figures.push({ what, ours: mebibytes, unit: 'MiB', value: mebibytes, must: 400 });
      });
    return figures;
  },
};

const idle: Row = {
  name: 'idle',
  about: 'a pass in which nothing ended, 10,000 jobs, CPU',
  measure: (context) => {
    const figures: Figure[] = [];
    for (const logs of [true, false])
      withSite({ jobs: 10_000, ended: 0, logs }, (site) => {
        const cpu = (argv: readonly string[]) => usageOf({ argv, env: path(site) }, site.scratch).cpuMs;
        // The first pass meets everything for the first time.
        cpu(ourPass(context, site));
        const both = compare(
          context.turns(5),
          () => cpu(ourPass(context, site)),
          () => cpu([process.execPath, '-e', '0']),
        );
        figures.push(ratio(`nothing ended, by ${logs ? 'log' : 'qstat'}`, both, 'node -e 0', 6));
      });
    return figures;
  },
};

const LATENCY_LIMIT_MS = 70_000;

const latency: Row = {
  name: 'latency',
  about:
    "from the end's line in TORQUE's log to lrms_done, scan running, 10,000 jobs; ARC's: up to its 60 s pass",
  measure: async (context) => {
    const site = makeSite({ jobs: 10_000, ended: 0, logs: true });
    const argv = [ourBackend(context, 'scan'), '--config', site.ours, site.control];
    const [file = '', ...args] = argv;
    const scan = spawn(file, args, { env: { ...environment(), ...path(site) }, stdio: 'ignore' });
    const over = new Promise((resolve) => scan.once('exit', resolve));
    try {
      // Until its first look at everything is over.
      await setTimeout(8_000);
      const seconds: number[] = [];
      const turns = context.turns(7);
      for (const job of site.jobs.filter(({ state }) => state === 'R').slice(0, turns)) {
        seconds.push(await secondsUntilReported(site, job));
        await setTimeout(730);
      }
      const ours = median(seconds);
      return [{ what: 'log line to lrms_done', ours, unit: 's', value: ours, must: 1 }];
    } finally {
      scan.kill('SIGTERM');
      await over;
      site.remove();
    }
  },
};

async function secondsUntilReported(site: Site, job: GridJob): Promise<number> {
  const done = join(site.control, `job.${job.gridId}.lrms_done`);
  site.end(job);
  const started = performance.now();
  while (!existsSync(done)) {
    if (performance.now() - started > LATENCY_LIMIT_MS)
      throw new Error(`no ${done} after ${LATENCY_LIMIT_MS} ms`);
    await setTimeout(5);
  }
  return (performance.now() - started) / 1000;
}

const COLLECT = `
use strict; use warnings;
require LogUtils; LogUtils::level('ERROR');
require LRMSInfo;
my ($lrms, $bin, $control, $conf, $list) = @ARGV;
$CEInfo::configfile = $CEInfo::configfile = $conf;
open(my $file, '<', $list) or die; chomp(my @jobs = <$file>);
my $info = LRMSInfo::collect({
    lrms => $lrms, defaultqueue => 'main', controldir => $control, loglevel => 'ERROR', pbs_bin_path => $bin,
    pbs_log_path => '', jobs => \\@jobs, queues => { main => { users => ['nobody'] } } });
my $running = grep { $_->{status} eq 'R' } values %{ $info->{jobs} };
printf "jobs=%d running=%d nodes=%d\\n", scalar(keys %{ $info->{jobs} }), $running, scalar(keys %{ $info->{nodes} });
`;

const info: Row = {
  name: 'info',
  about: 'information provider, 10,000 jobs, 500 nodes, CPU, both through LRMSInfo::collect',
  measure: (context) =>
    withSite({ jobs: 10_000, ended: 0, nodes: 500 }, (site) => {
      const script = join(site.path, 'collect.pl');
      const list = join(site.path, 'job-list');
      writeFileSync(script, COLLECT);
      writeFileSync(list, site.jobs.map(({ id }) => `${id}\n`).join(''));
      mkdirSync(join(site.path, 'none'));
      const modules = join(context.program, 'arc-backend');
      const collect = (lrms: string, conf: string) => () => {
        const argv = ['perl', '-I', modules, '-I', ARC, script, lrms, site.bin, site.control, conf, list];
        const { cpuMs, stdout } = usageOf({ argv, env: path(site) }, site.scratch);
        const running = site.jobs.filter(({ state }) => state === 'R').length;
        const wanted = `jobs=${site.jobs.length} running=${running} nodes=500`;
        if (!stdout.includes(wanted))
          throw new Error(
            `${lrms}: said ${stdout.trim()}, should have been ${wanted}\n${readFileSync(`${site.scratch}/stderr`, 'utf8').slice(0, 2000)}`,
          );
        return cpuMs;
      };
      const both = compare(context.turns(3), collect('vmbatch', site.ours), collect('pbs', site.theirs));
      return [ratio('information provider', both, "ARC's PBS.pm", 1 / 3)];
    }),
};

/** In the order in which they are printed; the quick ones first. */
export const ROWS: readonly Row[] = [
  start,
  submit,
  cancel,
  processes,
  idle,
  growth,
  large,
  latency,
  info,
  scanAgainstArc(true, 1 / 50),
  scanAgainstArc(false, 1 / 100),
];
