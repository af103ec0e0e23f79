// A CE with any number of jobs in INLRMS, made of files: control directory, session directories, TORQUE's
// logs, programs that answer for TORQUE at once, and a configuration for ARC's own backend and for ours.
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statfsSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endLine, logName, startLines } from './batch-answers.ts';
import { DIAG, type GridJob, gramiText, localText, RUNTIME } from './job-files.ts';
import { USER } from './measure.ts';
import { writePrograms } from './programs.ts';

export interface SiteOptions {
  jobs: number;
  /** How many of them just ended. */
  ended: number;
  nodes?: number;
  /** Whether TORQUE's logs are there; else qstat is all there is. */
  logs?: boolean;
}

export interface Site {
  path: string;
  control: string;
  jobs: readonly GridJob[];
  /** Configuration for `lrms = vmbatch` and for `lrms = pbs`. */
  ours: string;
  theirs: string;
  /** Folder of the programs; first in PATH it also makes `sleep` return at once. */
  bin: string;
  /** For small files of a measurement; everybody may write. */
  scratch: string;
  /** As if no scan had ever looked. */
  reset: () => void;
  /** Ids of the jobs that were reported. */
  reported: () => string[];
  /** Ends a job: its own record, then TORQUE's log line. */
  end: (job: GridJob) => void;
  remove: () => void;
}

/** A tmpfs with room, if there is one: half a million small files on disk slow everything else down. */
export function folderForFiles(): string {
  const tmpfs = '/dev/shm';
  if (!existsSync(tmpfs)) return tmpdir();
  const { bavail, bsize } = statfsSync(tmpfs);
  return bavail * bsize > 2 * 1024 ** 3 ? tmpfs : tmpdir();
}

/** Makes everything below one new folder. */
export function makeSite({ jobs: count, ended, nodes: nodeCount = 20, logs = false }: SiteOptions): Site {
  const path = mkdtempSync(join(folderForFiles(), 'vmbatch-bench-'));
  chmodSync(path, 0o755);
  const folder = (name: string) => {
    const made = join(path, name);
    mkdirSync(made, { recursive: true });
    return made;
  };
  const control = folder('control');
  for (const name of [
    'accepting',
    'processing',
    'finished',
    'restarting',
    'rte/enabled',
    'rte/default',
    'rte/params',
  ])
    folder(`control/${name}`);
  const session = folder('session');
  const logFolder = folder('server_logs');
  const scratch = folder('scratch');
  chmodSync(scratch, 0o777);
  chownSync(session, USER.uid, USER.gid);
  const every = ended === 0 ? Number.POSITIVE_INFINITY : Math.floor(count / ended);
  const jobs = Array.from({ length: count }, (_, index): GridJob => {
    const over = index % every === 0 && index / every < ended;
    return {
      gridId: `Bench${String(index).padStart(7, '0')}NDmABFKDmABFKDmABFKDmAFGKDmEBFKDmYHZSumXa`,
      id: `${100_000 + index}.bench`,
      user: 'nobody',
      state: over ? 'C' : index % 5 === 4 ? 'Q' : 'R',
      node: `node${String(index % nodeCount).padStart(3, '0')}`,
      slot: Math.floor(index / nodeCount),
    };
  });
  const owned = (file: string, text: string, mode = 0o600) => {
    writeFileSync(file, text, { mode });
    chownSync(file, USER.uid, USER.gid);
  };
  const record = ({ gridId }: GridJob, over: boolean) => {
    owned(join(session, `${gridId}.diag`), over ? DIAG : '');
    owned(join(session, `${gridId}.comment`), over ? 'some output of the batch job\n' : '');
  };
  for (const job of jobs) {
    const base = join(control, `job.${job.gridId}`);
    const directory = join(session, job.gridId);
    mkdirSync(directory, { mode: 0o700 });
    chownSync(directory, USER.uid, USER.gid);
    writeFileSync(join(control, 'processing', `job.${job.gridId}.status`), 'INLRMS');
    owned(`${base}.local`, localText(job, directory));
    owned(`${base}.grami`, `${gramiText(job.gridId, control, directory)}joboption_jobid=${job.id}\n`);
    owned(`${base}.errors`, 'vmbatch: submitted\n');
    record(job, job.state === 'C');
  }

  const dayStart = new Date();
  dayStart.setHours(0, 0, 1);
  const log = join(logFolder, logName(dayStart));
  const logText = () =>
    jobs.map((job) => startLines(job, dayStart)).join('') +
    jobs
      .filter(({ state }) => state === 'C')
      .map((job) => endLine(job, dayStart))
      .join('');
  if (logs) writeFileSync(log, logText());

  const bin = writePrograms(folder('bin'), folder('torque'), jobs, nodeCount);
  const conf = (name: string, lrms: string, rest: string) => {
    const file = join(path, name);
    writeFileSync(
      file,
      `[common]\nhostname=bench.example.org\nx509_cert_dir=/etc/grid-security/certificates\n\n[arex]\ncontroldir=${control}\n` +
        `sessiondir=${session}\nshared_filesystem=yes\ndefaultttl=604800 2592000\n\n[lrms]\nlrms=${lrms} main\n` +
        `pbs_bin_path=${bin}\npbs_log_path=${logs ? logFolder : join(path, 'no-logs')}\ndefaultmemory=1024\n\n` +
        `[queue:main]\ncomment=benchmark\n\n${rest}`,
    );
    return file;
  };

  const site: Site = {
    path,
    control,
    jobs,
    bin,
    scratch,
    ours: conf('ours.conf', 'vmbatch', '[custom:vmbatch]\nimage=alma9\n'),
    theirs: conf('theirs.conf', 'pbs', ''),
    reset: () => {
      for (const name of readdirSync(control))
        if (/\.lrms_(?:done|job)$|^pbs_log_scan\.|^vmbatch-scan\./.test(name)) rmSync(join(control, name));
      for (const job of jobs)
        if (job.state === 'C') {
          record(job, true);
          truncateSync(join(control, `job.${job.gridId}.errors`), 0);
        }
    },
    reported: () => readdirSync(control).flatMap((name) => /^job\.(.+)\.lrms_done$/.exec(name)?.[1] ?? []),
    end: (job) => {
      record(job, true);
      if (existsSync(log)) appendFileSync(log, endLine(job, new Date()));
    },
    remove: () => rmSync(path, { recursive: true, force: true }),
  };
  return site;
}

/** Adds what a submit needs, and returns what makes a fresh grami file each time it is called. */
export function makeSubmission(site: Site): () => string {
  const runtime = join(site.path, 'BENCH-1.0');
  writeFileSync(runtime, RUNTIME);
  mkdirSync(join(site.control, 'rte/enabled/APPS'));
  symlinkSync(runtime, join(site.control, 'rte/enabled/APPS/BENCH-1.0'));
  lchownSync(join(site.control, 'rte/enabled/APPS/BENCH-1.0'), 0, 0);
  let made = 0;
  return () => {
    const gridId = `Submit${String(made++).padStart(6, '0')}NDmABFKDmABFKDmABFKDmAFGKDmEBFKDmYHZSumXa`;
    const directory = join(site.path, 'session', gridId);
    mkdirSync(directory, { mode: 0o700 });
    writeFileSync(join(directory, 'job.sh'), '#!/bin/sh\n', { mode: 0o700 });
    const grami = join(site.control, `job.${gridId}.grami`);
    writeFileSync(grami, gramiText(gridId, site.control, directory), { mode: 0o600 });
    for (const file of ['diag', 'comment']) writeFileSync(`${directory}.${file}`, '', { mode: 0o600 });
    for (const file of [
      directory,
      join(directory, 'job.sh'),
      grami,
      `${directory}.diag`,
      `${directory}.comment`,
    ])
      chownSync(file, USER.uid, USER.gid);
    return grami;
  };
}
