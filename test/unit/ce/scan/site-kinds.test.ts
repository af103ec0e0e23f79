import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { diagValue } from '../../../../src/arc/diag.ts';
import { scanOnce } from '../../../../src/ce/scan/scan.ts';
import { logDuration } from '../../../../src/ce/submit/durations.ts';
import { run } from '../../../../src/util/processes/run.ts';
import {
  calls,
  control,
  controlFile,
  diag,
  done,
  gridJob,
  log,
  options,
  passes,
  put,
  qstat,
  ROOT,
  session,
  torque,
  USER,
  useScanSite,
} from './site.ts';

useScanSite();

describe('scan in different control directories', () => {
  it('reports jobs of ARC 7, whose files are nested', async () => {
    const id = 'abcdefghijkl';
    mkdirSync(join(control, 'jobs/abc/def/ghi/jkl'), { recursive: true });
    writeFileSync(join(control, 'processing', `${id}.status`), 'INLRMS');
    put(
      join(control, 'jobs/abc/def/ghi/jkl/local'),
      `lrms=vmbatch\nlocalid=1.vm\nsessiondir=${session(id)}\n`,
    );
    put(join(control, 'jobs/abc/def/ghi/jkl/errors'), 'log\n');
    put(`${session(id)}.diag`, 'exitcode=5\n');
    put(`${session(id)}.comment`, 'said\n');
    qstat({ id: '1.vm', state: 'C', exitStatus: 5 });
    expect(await scanOnce(options())).toEqual([id]);
    expect(readFileSync(join(control, 'jobs/abc/def/ghi/jkl/lrms_done'), 'utf8')).toBe(
      '5 Job exited with code 5\n',
    );
    expect(readFileSync(join(control, 'jobs/abc/def/ghi/jkl/errors'), 'utf8')).toContain('said');
    expect(calls().at(-1)).toBe(`gm-kick|-j ${id} ${control}`);
  });

  it('asks TORQUE once for several control directories, and calls gm-kick once for each', async () => {
    gridJob('1', { record: 'exitcode=0\n' });
    const second = join(torque.directory, 'second');
    cpSync(control, second, { recursive: true });
    if (ROOT) chownSync(join(second, 'job.1.local'), USER.uid, USER.gid);
    qstat({ id: '1.vm', state: 'C', exitStatus: 0 });
    expect(await scanOnce({ ...options(), controlDirectories: [control, second] })).toEqual(['1', '1']);
    expect(calls()).toEqual([
      'qstat|-x',
      `gm-kick|-j 1 ${control}/job.1.local`,
      `gm-kick|-j 1 ${second}/job.1.local`,
    ]);
    expect(existsSync(join(second, 'job.1.lrms_done'))).toBe(true);
  });

  it('fails a job that was refused with its reason, without asking TORQUE for it', async () => {
    gridJob('1', { localId: 'refused.1', record: 'vmbatch_refusal=250 image "x" is not allowed\n' });
    expect(await scanOnce(options())).toEqual(['1']);
    expect(done('1')).toBe('250 image "x" is not allowed\n');
    expect(diagValue(diag('1'), 'exitcode')).toBe('250');
  });

  it('writes performance logs as ARC does where they are asked for, and goes on where it cannot', async () => {
    gridJob('1');
    qstat({ id: '1.vm', state: 'R' });
    await passes(1, { perflogDirectory: torque.directory });
    const figures = readFileSync(join(torque.directory, 'backends.perflog'), 'utf8');
    expect(figures).toMatch(
      /^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] scan-vmbatch-job, ControlDirTraversal: \d+\.\d{3}$/m,
    );
    expect(figures).toMatch(/scan-vmbatch-job, JobProcessing: \d+\.\d{3}$/m);
    const system = readdirSync(torque.directory).find((name) =>
      /^system\d{4}-\d\d-\d\d\.perflog$/.test(name),
    );
    expect(readFileSync(join(torque.directory, system ?? ''), 'utf8')).toMatch(
      /LoadAVG: .*\n.*MemStat: .*\n.*Control dir: \d+ 1\n/,
    );
    await passes(1, { perflogDirectory: join(torque.directory, 'nowhere') });
  });

  it('writes performance logs into no file of others, and waits for none', async () => {
    const logs = join(torque.directory, 'perf');
    mkdirSync(logs);
    const secret = join(torque.directory, 'secret');
    writeFileSync(secret, 'as it was');
    const day = new Date();
    const two = (number: number) => String(number).padStart(2, '0');
    const system = `system${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())}.perflog`;
    symlinkSync(secret, join(logs, system));
    linkSync(secret, join(logs, 'backends.perflog'));
    gridJob('1');
    qstat({ id: '1.vm', state: 'R' });
    await passes(1, { perflogDirectory: logs });
    rmSync(join(logs, 'backends.perflog'));
    await run('mkfifo', [join(logs, 'backends.perflog')]);
    await passes(1, { perflogDirectory: logs });
    logDuration(logs, 'JobSubmission', 0);
    expect(readFileSync(secret, 'utf8')).toBe('as it was');
    expect(readFileSync(join(logs, 'submission.perflog'), 'utf8')).toContain('JobSubmission');
    rmSync(join(logs, 'submission.perflog'));
    symlinkSync(secret, join(logs, 'submission.perflog'));
    logDuration(logs, 'JobSubmission', 0);
    expect(readFileSync(secret, 'utf8')).toBe('as it was');
  });

  it('reports flat and nested jobs that are there at the same time', async () => {
    const nested = 'abcdefghijkl';
    const folder = join(control, 'jobs/abc/def/ghi/jkl');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(control, 'processing', `${nested}.status`), 'INLRMS');
    put(join(folder, 'local'), `localid=9.vm\nsessiondir=${session(nested)}\n`);
    put(`${session(nested)}.diag`, 'exitcode=5\n');
    for (const id of ['1', '2']) gridJob(id, { record: 'exitcode=0\n' });
    qstat(...['1', '2', '9'].map((id) => ({ id: `${id}.vm`, state: 'C', exitStatus: 0 })));
    expect((await passes(1)).sort()).toEqual(['1', '2', nested]);
    expect(readFileSync(join(folder, 'lrms_done'), 'utf8')).toBe('5 Job exited with code 5\n');
  });

  it('tells A-REX at its start, in the one call, of a job that was reported by a scan which then was killed', async () => {
    for (const id of ['1', '2', '3']) gridJob(id, { record: 'exitcode=0\n' });
    qstat(...['1', '2', '3'].map((id) => ({ id: `${id}.vm`, state: 'R' })));
    await passes(1);
    // Files that are made in the very tick of the clock in which the state was saved look older than they
    // are.
    await setTimeout(50);
    put(controlFile('1', 'lrms_done'), '0\n');
    put(controlFile('2', 'lrms_done'), '0\n');
    writeFileSync(join(control, 'processing/job.2.status'), 'FINISHING');
    put(controlFile('3', 'lrms_done.999999999.tmp'), '0');
    put(controlFile('3', `lrms_done.${process.pid}.tmp`), '0');
    qstat({ id: '3.vm', state: 'C', exitStatus: 0 });
    expect(await passes(1)).toEqual(['3']);
    expect(calls().filter((call) => call.startsWith('gm-kick'))).toEqual([
      `gm-kick|-j 1 -j 3 ${control}/job.3.local`,
    ]);
    expect(readdirSync(control).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });
});

describe('scan and what users put in its way', () => {
  it("tells nothing of a batch job that is not the grid job's own", async () => {
    gridJob('1', { localId: '777.vm' });
    gridJob('2', { localId: '777.vm', record: 'exitcode=0\n' });
    qstat({
      ...{ id: '777.vm', state: 'C', exitStatus: 42 },
      more: '<exec_host>n7/0</exec_host><Error_Path>ce:/home/victim/secret.e777</Error_Path>',
    });
    expect((await passes(1)).sort()).toEqual(['1', '2']);
    expect(done('1')).toMatch(/^-1 Job was lost/);
    expect(done('2')).toBe('0\n');
    for (const id of ['1', '2']) expect(JSON.stringify(diag(id))).not.toMatch(/42|n7/);
    expect(log.join('\n')).toContain('batch job 777.vm is not its own');
  });

  it('shows a failure to accounting although the job says that all went well', async () => {
    gridJob('1', { record: 'exitcode=0\n' });
    qstat({ id: '1.vm', state: 'C', exitStatus: -11 });
    await scanOnce(options());
    expect(done('1')).toMatch(/^-11 /);
    expect(diagValue(diag('1'), 'exitcode')).toBe('143');
  });

  it('passes on the output once, however often it takes to report', async () => {
    gridJob('1', { record: 'exitcode=0\n', comment: 'said\n' });
    qstat({ id: '1.vm', state: 'C', exitStatus: 0 });
    // Something of root's in place of the temporary file.
    const obstacle = `${controlFile('1', 'lrms_done')}.${process.pid}.tmp`;
    mkdirSync(obstacle);
    expect(await passes(2)).toEqual([]);
    rmSync(obstacle, { recursive: true });
    expect(await passes(1)).toEqual(['1']);
    expect(readFileSync(controlFile('1', 'errors'), 'utf8').split('said').length).toBe(2);
  });

  it('neither waits for a FIFO nor reads it', async () => {
    gridJob('1');
    for (const name of ['diag', 'comment']) {
      rmSync(`${session('1')}.${name}`);
      expect((await run('mkfifo', ['-m', '666', `${session('1')}.${name}`])).exitCode).toBe(0);
    }
    qstat({ id: '1.vm', state: 'C', exitStatus: 4 });
    expect(await scanOnce(options())).toEqual(['1']);
    expect(done('1')).toBe('4 Job left no exit code, the batch system reports 4\n');
    expect(log.join('\n')).toContain('1.diag: is not a regular file');
  });

  it('does not read a huge record, and of a huge output only its ends', async () => {
    gridJob('1');
    truncateSync(`${session('1')}.diag`, 2 ** 36);
    truncateSync(`${session('1')}.comment`, 2 ** 36);
    qstat({ id: '1.vm', state: 'C', exitStatus: 4 });
    expect(await scanOnce(options())).toEqual(['1']);
    expect(statSync(controlFile('1', 'errors')).size).toBeLessThan(1.1 * 1024 * 1024);
    expect(Object.fromEntries(diag('1'))).toEqual({
      exitcode: '4',
      LRMSExitcode: '4',
      LRMSMessage: expect.any(String),
    });
  });

  it.runIf(ROOT)('writes through no hard link to a file of somebody else', async () => {
    gridJob('1', { record: 'exitcode=0\n', comment: 'mine\n' });
    const secret = join(torque.directory, 'secret');
    writeFileSync(secret, 'secret\n', { mode: 0o600 });
    rmSync(controlFile('1', 'errors'));
    linkSync(secret, controlFile('1', 'errors'));
    chmodSync(secret, 0o600);
    qstat({ id: '1.vm', state: 'C', exitStatus: 0 });
    expect(await scanOnce(options())).toEqual(['1']);
    expect(readFileSync(secret, 'utf8')).toBe('secret\n');
  });

  it.runIf(ROOT)('reads no file of root through a session directory that is a link', async () => {
    gridJob('1');
    const hidden = join(torque.directory, 'hidden');
    mkdirSync(hidden, { mode: 0o700 });
    writeFileSync(join(hidden, '1.diag'), 'exitcode=0\n');
    put(controlFile('1', 'local'), `localid=1.vm\nsessiondir=${hidden}/1\n`);
    qstat({ id: '1.vm', state: 'C', exitStatus: 4 });
    await scanOnce(options());
    expect(done('1')).toMatch(/^4 /);
    expect(readFileSync(join(hidden, '1.diag'), 'utf8')).toBe('exitcode=0\n');
  });

  it('reports the jobs of each account as that account', async () => {
    for (const id of ['1', '2', '3']) gridJob(id, { record: 'exitcode=0\n' });
    if (ROOT)
      for (const path of [controlFile('2', 'local'), `${session('2')}.diag`]) chownSync(path, 54321, 54321);
    qstat(...['1', '2', '3'].map((id) => ({ id: `${id}.vm`, state: 'C', exitStatus: 0 })));
    expect((await scanOnce(options())).sort()).toEqual(['1', '2', '3']);
    expect(log.filter((entry) => !entry.includes('ended: exit code 0'))).toEqual(
      ROOT ? [expect.stringContaining('2.comment: cannot be read (EACCES)')] : [],
    );
  });
});
