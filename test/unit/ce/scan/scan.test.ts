import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { diagValue } from '../../../../src/arc/diag.ts';
import { scan, scanOnce } from '../../../../src/ce/scan/scan.ts';
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
  sessions,
  status,
  stop,
  torque,
  useScanSite,
} from './site.ts';

useScanSite();

const RECORD = 'nodename=guest\nProcessors=1\nWallTime=2.5s\nLRMSStartTime=20261122090000Z\nexitcode=7\n';
const TORQUE_RECORD =
  '<exec_host>n1/0-1</exec_host><start_time>1795339034</start_time><comp_time>1795339037</comp_time>' +
  '<resources_used><walltime>00:00:03</walltime><cput>00:00:09</cput></resources_used>';

describe('scan', () => {
  it('reports a job that ended with the exit code of its own record', async () => {
    gridJob('1', { record: RECORD, comment: 'from the wrapper\n' });
    qstat({ id: '1.vm', state: 'C', exitStatus: 0, more: TORQUE_RECORD });
    expect(await scanOnce(options())).toEqual(['1']);
    expect(done('1')).toBe('7 Job exited with code 7\n');
    expect(readFileSync(`${session('1')}.diag`, 'utf8')).toBe(
      `${RECORD}LRMSEndTime=20261122091717Z\nLRMSExitcode=0\n`,
    );
    expect(readFileSync(controlFile('1', 'errors'), 'utf8')).toBe(
      'log\n--- output of batch job 1.vm\nfrom the wrapper\n--- end of output of batch job 1.vm\n',
    );
    expect(readdirSync(control).sort()).toEqual([
      'job.1.errors',
      'job.1.local',
      'job.1.lrms_done',
      'processing',
      'vmbatch-scan.state',
    ]);
  });

  it('tells the admin, once for many jobs, what runtime environments complained of in stage 0', async () => {
    const record = `vmbatch_complaint=ENV/X: control_path: not\tfound\n${RECORD}`;
    gridJob('1', { record });
    gridJob('2', { record });
    qstat({ id: '1.vm', state: 'C', exitStatus: 0 }, { id: '2.vm', state: 'C', exitStatus: 0 });
    await scanOnce(options());
    expect(log.filter((line) => line.includes('ENV/X'))).toEqual([
      'runtime environments went on in stage 0 after they had said: ENV/X: control_path: not found',
    ]);
  });

  it("tells the reason that the job's own script wrote down", async () => {
    gridJob('1', {
      record: `LRMSMessage=Runtime ENV/X stage 1 execution failed.\n${RECORD}`,
      comment: 'other\n',
    });
    qstat({ id: '1.vm', state: 'C', exitStatus: 7 });
    await scanOnce(options());
    expect(done('1')).toBe('7 Runtime ENV/X stage 1 execution failed.\n');
    expect(diagValue(diag('1'), 'LRMSMessage')).toBe('Runtime ENV/X stage 1 execution failed.');
  });

  it("fills in TORQUE's figures for a job that did not get to writing its own", async () => {
    gridJob('1', { comment: '=>> PBS: job killed: walltime 52 exceeded limit 12\n' });
    qstat({ id: '1.vm', state: 'C', exitStatus: -11, more: TORQUE_RECORD });
    await scanOnce(options());
    expect(done('1')).toBe(
      '-11 Job was killed: it exceeded its wall-clock time limit: =>> PBS: job killed: walltime 52 exceeded limit 12\n',
    );
    expect(Object.fromEntries(diag('1'))).toEqual({
      nodename: 'n1',
      Processors: '2',
      WallTime: '3s',
      LRMSStartTime: '20261122091714Z',
      LRMSEndTime: '20261122091717Z',
      LRMSMessage: '=>> PBS: job killed: walltime 52 exceeded limit 12',
      LRMSExitcode: '-11',
    });
  });

  it('puts a positive code of TORQUE into the record as well', async () => {
    gridJob('1');
    qstat({ id: '1.vm', state: 'C', exitStatus: 271 });
    await scanOnce(options());
    expect(diagValue(diag('1'), 'exitcode')).toBe('271');
  });

  it('asks TORQUE and calls gm-kick once, however many jobs ended', async () => {
    for (const id of ['1', '2', '3']) gridJob(id, { record: 'exitcode=0\n' });
    qstat(...['1', '2', '3'].map((id) => ({ id: `${id}.vm`, state: 'C', exitStatus: 0 })));
    await scanOnce(options());
    expect(done('3')).toBe('0\n');
    expect(calls()).toEqual(['qstat|-x', `gm-kick|-j 1 -j 2 -j 3 ${control}/job.3.local`]);
  });

  it.each(['Q', 'R', 'H', 'E'])('leaves a job in state %s alone', async (state) => {
    gridJob('1', { record: RECORD });
    qstat({ id: '1.vm', state });
    expect(await scanOnce(options())).toEqual([]);
    expect(done('1')).toBeUndefined();
  });

  it('looks only at jobs in INLRMS and CANCELING that were not reported', async () => {
    gridJob('1', { state: 'FINISHING' });
    gridJob('2', { state: 'SUBMIT' });
    gridJob('3');
    writeFileSync(controlFile('3', 'lrms_done'), 'as it was');
    qstat(...['1', '2', '3'].map((id) => ({ id: `${id}.vm`, state: 'C', exitStatus: 0 })));
    expect(await passes(2)).toEqual([]);
    expect([done('1'), done('2'), done('3')]).toEqual([undefined, undefined, 'as it was']);
    writeFileSync(status('2'), 'INLRMS');
    expect(await scanOnce(options())).toEqual(['2']);
  });

  it('reports a cancelled job as deleted on request', async () => {
    gridJob('1', { state: 'CANCELING' });
    qstat({ id: '1.vm', state: 'C', exitStatus: 271 });
    await scanOnce(options());
    expect(done('1')).toBe('271 Job was deleted on request\n');
  });

  it('declares a job lost only when TORQUE did not know it three times in a row', async () => {
    gridJob('1');
    qstat();
    await passes(3);
    expect(calls()).toEqual([
      ...['qstat|-x', 'qstat|-x', 'qstat|-x', 'qstat|-x 1.vm'],
      `gm-kick|-j 1 ${control}/job.1.local`,
    ]);
    expect(done('1')).toBe(
      '-1 Job was lost: the batch system no longer knows it, and it left no exit code\n',
    );
  });

  const ANSWER = (state: string) =>
    `<Data><Job><Job_Id>1.vm</Job_Id><job_state>${state}</job_state></Job></Data>`;
  it.each([
    ['a server that does not answer', { exitCode: 111, stderr: 'qstat: cannot connect\n' }],
    ['the code for an unknown job without a word', { exitCode: 153 }],
    ['another job that is unknown', { exitCode: 153, stderr: 'qstat: Unknown Job Id Error 11.vm\n' }],
    ['no answer at all', {}],
    ['an answer about another job', { stdout: ANSWER('C').replace('1.vm', '11.vm') }],
    ['half an answer', { stdout: '<Data><Job>' }],
    ['a job that is there after all', { stdout: ANSWER('R') }],
  ])('does not take a job that is missing from the list for lost on %s', async (_, answer) => {
    gridJob('1');
    qstat();
    torque.answer('qstat-job', answer);
    expect(await passes(3)).toEqual([]);
    expect(torque.calls().at(-1)).toMatch(/^qstat\|.*\|-x 1\.vm$/);
    expect(done('1')).toBeUndefined();
  });

  it('takes the end of a job that is missing from the list from the answer about it', async () => {
    gridJob('1');
    qstat();
    torque.answer('qstat-job', {
      stdout: ANSWER('C').replace('</Job>', '<exit_status>5</exit_status></Job>'),
    });
    await passes(3);
    expect(done('1')).toBe('5 Job left no exit code, the batch system reports 5\n');
  });

  it('takes the code for an unknown job without an answer for no answer about all jobs', async () => {
    gridJob('1');
    torque.answer('qstat', { exitCode: 153 });
    expect(await scanOnce(options())).toEqual([]);
    expect(done('1')).toBeUndefined();
    expect(log).toEqual([expect.stringContaining('qstat for all jobs: the server knows no such job')]);
  });

  it('lets no id that TORQUE refuses hide the ends of other jobs', async () => {
    for (const id of ['1', '2', '3', '4', '5']) gridJob(id, { record: 'exitcode=0\n' });
    qstat();
    writeFileSync(
      join(torque.binPath, 'qstat'),
      `#!/bin/sh
shift
case " $* " in *' 3.vm '*) echo 'qstat: illegally formed job identifier' >&2; exit 1 ;; esac
[ $# = 0 ] || printf '<Data>'
for id; do printf '<Job><Job_Id>%s</Job_Id><job_state>C</job_state></Job>' "$id"; done
[ $# = 0 ] || printf '</Data>'
`,
    );
    expect((await passes(3)).sort()).toEqual(['1', '2', '4', '5']);
    expect(log.filter((line) => line.includes('illegally formed'))).toEqual([
      expect.stringContaining('(3.vm)'),
    ]);
  });

  it('asks a server that is away once, not for each job', async () => {
    for (const id of ['1', '2', '3', '4']) gridJob(id);
    qstat();
    torque.answer('qstat-job', { exitCode: 111 });
    await passes(3);
    expect(calls().filter((call) => call.startsWith('qstat|-x '))).toHaveLength(1);
  });

  it('never gives qstat an id that TORQUE cannot have given', async () => {
    gridJob('1', { localId: '-Q' });
    qstat();
    await passes(3);
    expect(calls().filter((call) => call.startsWith('qstat|') && call !== 'qstat|-x')).toEqual([]);
    expect(done('1')).toContain('-1 Job was lost');
  });

  it('takes the own record of a job that TORQUE forgot', async () => {
    gridJob('1', { record: 'exitcode=0\n' });
    qstat();
    await passes(3);
    expect(done('1')).toBe('0\n');
  });

  it('takes a server that does not answer for nothing else, and says so once', async () => {
    gridJob('1');
    torque.answer('qstat', { exitCode: 111, stderr: 'qstat: cannot connect\n' });
    expect(await scanOnce(options())).toEqual([]);
    expect(done('1')).toBeUndefined();
    expect(log).toEqual([
      'qstat for all jobs: the batch server does not answer (exit code 111: qstat: cannot connect)',
    ]);
  });

  it('takes a cut answer for no answer', async () => {
    gridJob('1');
    torque.answer('qstat', { stdout: '<Data><Job><Job_Id>9.vm</Job_Id>' });
    expect(await scanOnce(options())).toEqual([]);
    expect(done('1')).toBeUndefined();
  });

  it('takes away the mark of a submission, which would make a rerun find this job', async () => {
    gridJob('1', { record: 'exitcode=0\n' });
    put(join(session('1'), '.vmbatch-submission'), `${'a'.repeat(32)}\n1.vm\n`);
    qstat({ id: '1.vm', state: 'C', exitStatus: 0 });
    await passes(1);
    expect(done('1')).toBe('0\n');
    expect(existsSync(join(session('1'), '.vmbatch-submission'))).toBe(false);
  });

  it('finishes a job whose session directory is gone', async () => {
    gridJob('1');
    rmSync(sessions, { recursive: true });
    qstat({ id: '1.vm', state: 'C', exitStatus: 3 });
    await scanOnce(options());
    expect(done('1')).toBe('3 Job left no exit code, the batch system reports 3\n');
  });

  it('keeps beginning and end of a huge output', async () => {
    gridJob('1', { record: RECORD, comment: `first${'x'.repeat(3_000_000)}last` });
    qstat({ id: '1.vm', state: 'C', exitStatus: 7 });
    await scanOnce(options());
    const text = readFileSync(controlFile('1', 'errors'), 'utf8');
    expect(text.length).toBeLessThan(1024 * 1024 + 300);
    expect(text).toMatch(/\n\[\.\.\. \d+ bytes left out \.\.\.\]\n/);
    expect(text).toContain('batch job 1.vm\nfirst');
    expect(text).toContain('last\n--- end of output of batch job 1.vm\n');
  });

  it('reports the other jobs when one cannot be reported', async () => {
    gridJob('1', { record: 'exitcode=0\n' });
    gridJob('2', { record: 'exitcode=0\n' });
    mkdirSync(`${controlFile('1', 'lrms_done')}.${process.pid}.tmp`);
    qstat({ id: '1.vm', state: 'C', exitStatus: 0 }, { id: '2.vm', state: 'C', exitStatus: 0 });
    expect(await scanOnce(options())).toEqual(['2']);
    expect(log.join('\n')).toMatch(/^job 1: /m);
  });

  it.each([
    ['a symbolic link', (path: string, target: string) => symlinkSync(target, path)],
    ['a folder', (path: string) => mkdirSync(path)],
  ])('neither reads nor writes through %s put in place of the records', async (_, put_) => {
    const target = join(torque.directory, 'secret');
    writeFileSync(target, 'exitcode=0\n', { mode: 0o644 });
    gridJob('1');
    for (const name of ['diag', 'comment']) {
      rmSync(`${session('1')}.${name}`);
      put_(`${session('1')}.${name}`, target);
    }
    qstat({ id: '1.vm', state: 'C', exitStatus: 4 });
    await scanOnce(options());
    expect(done('1')).toBe('4 Job left no exit code, the batch system reports 4\n');
    expect(readFileSync(target, 'utf8')).toBe('exitcode=0\n');
    expect(readFileSync(controlFile('1', 'errors'), 'utf8')).toBe('log\n');
  });

  describe.runIf(ROOT)('as root', () => {
    it("touches the session's files as the job's user only", async () => {
      gridJob('1');
      const target = join(torque.directory, 'secret');
      writeFileSync(target, 'exitcode=0\n', { mode: 0o600 });
      chmodSync(sessions, 0o777);
      for (const name of ['diag', 'comment']) {
        rmSync(`${session('1')}.${name}`);
        linkSync(target, `${session('1')}.${name}`);
      }
      qstat({ id: '1.vm', state: 'C', exitStatus: 4 });
      await scanOnce(options());
      expect(done('1')).toBe('4 Job left no exit code, the batch system reports 4\n');
      expect(readFileSync(target, 'utf8')).toBe('exitcode=0\n');
      expect(log.join('\n')).toContain('1.diag: cannot be read (EACCES)');
      expect([process.geteuid?.(), process.getegid?.()]).toEqual([0, 0]);
    });

    it('ignores jobs that belong to root, as A-REX does', async () => {
      gridJob('1', { record: RECORD });
      chownSync(controlFile('1', 'local'), 0, 0);
      qstat({ id: '1.vm', state: 'C', exitStatus: 0 });
      expect(await scanOnce(options())).toEqual([]);
      expect(log).toEqual([expect.stringContaining('job 1: its files belong to root')]);
    });
  });

  it('goes on until it is told to stop, and notices what ends meanwhile', async () => {
    gridJob('1', { record: 'exitcode=0\n' });
    qstat({ id: '1.vm', state: 'R' });
    const running = scan({ ...options(), intervalMs: 20 });
    await setTimeout(60);
    expect(done('1')).toBeUndefined();
    // By rename, so that no pass reads half an answer.
    const next = join(torque.directory, 'next');
    writeFileSync(
      next,
      '<Data><Job><Job_Id>1.vm</Job_Id><job_state>C</job_state><exit_status>0</exit_status></Job></Data>',
    );
    renameSync(next, join(torque.directory, 'qstat.out'));
    for (let tries = 0; tries < 200 && done('1') === undefined; tries++) await setTimeout(20);
    expect(done('1')).toBe('0\n');
    const started = performance.now();
    stop.abort();
    await running;
    expect(performance.now() - started).toBeLessThan(1_000);
  });

  it('refuses a control directory that is none', async () => {
    await expect(scanOnce({ ...options(), controlDirectories: [sessions] })).rejects.toThrow(
      `${sessions}/processing: cannot be listed (ENOENT)`,
    );
  });
});
