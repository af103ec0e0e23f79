import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { Scanner } from '../../../../src/ce/scan/pass.ts';
import { type ScanOptions, scan, scanOnce } from '../../../../src/ce/scan/scan.ts';
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
  session,
  status,
  stop,
  torque,
  useScanSite,
} from './site.ts';

useScanSite();

let logs: string;
const withLog = (): ScanOptions => ({ ...options(), logDirectory: logs, intervalMs: 5_000 });
const two = (value: number) => String(value).padStart(2, '0');

/** A line of the server's log about a job, so many seconds ago. */
function line(text: string, { job = '1.vm', type = '08', ago = 1 } = {}): void {
  const time = new Date(Date.now() - ago * 1000);
  const date = `${two(time.getMonth() + 1)}/${two(time.getDate())}/${time.getFullYear()}`;
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.000`;
  appendFileSync(join(logs, '20261122'), `${date} ${clock};${type};PBS_Server.1;Job;${job};${text}\n`);
}
const ended = (exitStatus: number, more: { job?: string; ago?: number } = {}) =>
  line(`Exit_status=${exitStatus} resources_used.cput=9 resources_used.walltime=00:00:03`, {
    type: '16',
    ...more,
  });

beforeEach(() => {
  logs = join(torque.directory, 'server_logs');
  mkdirSync(logs);
  writeFileSync(join(logs, '20261122'), '');
});

/** The job is known, TORQUE's list was compared, and nothing has ended. */
async function settledSite(record = 'exitcode=0\n', id = '1'): Promise<void> {
  gridJob(id, { record });
  qstat({ id: `${id}.vm`, state: 'R' });
  expect(await scanOnce(withLog())).toEqual([]);
  rmSync(join(torque.directory, 'calls'));
}

describe('scan with the log of TORQUE', () => {
  it('reports an end without asking TORQUE at all', async () => {
    await settledSite('exitcode=7\n');
    ended(7);
    expect(await scanOnce(withLog())).toEqual(['1']);
    expect(done('1')).toBe('7 Job exited with code 7\n');
    expect(calls()).toEqual([`gm-kick|-j 1 ${control}/job.1.local`]);
    expect(Object.fromEntries(diag('1'))).toMatchObject({ WallTime: '3s', LRMSExitcode: '7' });
  });

  it('asks and reads nothing when nothing happened', async () => {
    await settledSite();
    const state = statSync(join(control, 'vmbatch-scan.state'));
    expect(await scanOnce(withLog())).toEqual([]);
    expect(calls()).toEqual([]);
    expect(statSync(join(control, 'vmbatch-scan.state')).ino).toBe(state.ino);
  });

  it('asks once for all that were killed, waits for their output and says why', async () => {
    for (const id of ['1', '2', '3']) gridJob(id, { comment: `reason of ${id}\n` });
    const elements = (state: string) =>
      ['1', '2', '3'].map((id) => ({
        id: `${id}.vm`,
        state,
        exitStatus: -11,
        more: '<exec_host>n1/0</exec_host>',
      }));
    qstat(...elements('R'));
    await scanOnce(withLog());
    for (const id of ['1', '2', '3']) ended(-11, { job: `${id}.vm` });
    torque.answer('qstat-job', {
      stdout: readFileSync(join(torque.directory, 'qstat.out'), 'utf8').replaceAll('>R<', '>E<'),
    });
    expect(await scanOnce(withLog())).toEqual([]);
    torque.answer('qstat-job', {
      stdout: readFileSync(join(torque.directory, 'qstat.out'), 'utf8').replaceAll('>R<', '>C<'),
    });
    rmSync(join(torque.directory, 'calls'));
    expect((await scanOnce(withLog())).sort()).toEqual(['1', '2', '3']);
    expect(calls()).toEqual([
      'qstat|-x 1.vm 2.vm 3.vm',
      expect.stringMatching(/^gm-kick\|-j \d -j \d -j \d /),
    ]);
    expect(done('2')).toBe('-11 Job was killed: it exceeded its wall-clock time limit: reason of 2\n');
    expect(Object.fromEntries(diag('3'))).toMatchObject({ nodename: 'n1', LRMSMessage: 'reason of 3' });
  });

  it('reports a killed job by the log alone when TORQUE does not answer for long', async () => {
    await settledSite('');
    ended(271, { ago: 5 });
    torque.answer('qstat-job', { exitCode: 111 });
    expect(await scanOnce(withLog())).toEqual([]);
    ended(271, { ago: 60 });
    expect(await scanOnce(withLog())).toEqual(['1']);
    expect(done('1')).toBe('271 Job was deleted from the batch system (qdel)\n');
    expect(log.filter((entry) => entry.includes('qstat'))).not.toEqual([]);
  });

  it('tells who deleted a job', async () => {
    await settledSite('');
    line('Job deleted at request of root@ce');
    ended(271);
    qstat({ id: '1.vm', state: 'C', exitStatus: 271 });
    torque.answer('qstat-job', { stdout: readFileSync(join(torque.directory, 'qstat.out'), 'utf8') });
    await scanOnce(withLog());
    expect(done('1')).toBe('271 Job was deleted from the batch system (qdel) by root@ce\n');
  });

  it('reports a job that was deleted while it waited without asking, if it saw all its life', async () => {
    gridJob('1');
    line('enqueuing into vmalice, state 1 hop 1', { type: '256' });
    qstat({ id: '1.vm', state: 'Q' });
    // Both lines come to one scan: what a job's beginning was is not written down.
    line('Job deleted at request of root@ce');
    expect(await scanOnce(withLog())).toEqual(['1']);
    expect(done('1')).toBe('-1 Job was deleted from the batch system before it started, by root@ce\n');
  });

  it('waits for a deleted job that runs until it has ended', async () => {
    await settledSite('');
    line('Job Run at request of root@localhost');
    line('Job deleted at request of root@ce');
    torque.answer('qstat-job', { stdout: readFileSync(join(torque.directory, 'qstat.out'), 'utf8') });
    expect(await passes(3, { logDirectory: logs })).toEqual([]);
    expect(done('1')).toBeUndefined();
  });

  it('does not take an end that TORQUE undid for one', async () => {
    await settledSite('');
    ended(-14, { ago: 20 });
    torque.answer('qstat-job', { stdout: readFileSync(join(torque.directory, 'qstat.out'), 'utf8') });
    expect(await passes(2, { logDirectory: logs })).toEqual([]);
    expect(done('1')).toBeUndefined();
  });

  it('takes a job that TORQUE purged for over', async () => {
    await settledSite('exitcode=3\n');
    line('dequeuing 1.vm  from vmalice, state COMPLETE', { type: '256' });
    expect(await scanOnce(withLog())).toEqual(['1']);
    expect(done('1')).toBe('3 Job exited with code 3\n');
    expect(calls().filter((call) => call.startsWith('qstat'))).toEqual([]);
  });

  it('finds the end of a job whose id A-REX wrote down only after it', async () => {
    await settledSite();
    ended(0, { job: '2.vm' });
    const running = scan({ ...withLog(), signal: stop.signal });
    await setTimeout(300);
    gridJob('2', { record: 'exitcode=0\n' });
    for (let tries = 0; tries < 300 && done('2') === undefined; tries++) await setTimeout(10);
    expect(done('2')).toBe('0\n');
    expect(calls().filter((call) => call.startsWith('qstat'))).toEqual([]);
    stop.abort();
    await running;
  });

  it('asks TORQUE for jobs that are new after a restart, since the log may have told before', async () => {
    await settledSite();
    gridJob('2', { record: 'exitcode=0\n' });
    qstat({ id: '1.vm', state: 'R' }, { id: '2.vm', state: 'C', exitStatus: 0 });
    expect(await scanOnce(withLog())).toEqual(['2']);
  });

  it('asks TORQUE for a job that turns up and of which it has read nothing: an earlier scan may have', async () => {
    await settledSite();
    const running = scan(withLog());
    await setTimeout(300);
    qstat({ id: '1.vm', state: 'R' }, { id: '2.vm', state: 'C', exitStatus: 0 });
    gridJob('2', { record: 'exitcode=0\n' });
    for (let tries = 0; tries < 300 && done('2') === undefined; tries++) await setTimeout(10);
    expect(done('2')).toBe('0\n');
    stop.abort();
    await running;
  });

  it('finds what the log did not tell when it compares with the list of TORQUE', async () => {
    await settledSite();
    qstat({ id: '1.vm', state: 'C', exitStatus: 0 });
    expect(await scanOnce(withLog())).toEqual([]);
    const state = join(control, 'vmbatch-scan.state');
    const old = JSON.parse(readFileSync(state, 'utf8'));
    writeFileSync(state, JSON.stringify({ ...old, comparedAt: Date.now() - 11 * 60_000 }));
    expect(await scanOnce(withLog())).toEqual(['1']);
  });

  it.each([
    ['is not there', () => rmSync(logs, { recursive: true }), 'cannot be read (ENOENT)'],
    ['holds no logs', () => rmSync(join(logs, '20261122')), 'has no server logs'],
    ['is silent for long', () => utimesSync(join(logs, '20261122'), 1000, 1000), undefined],
  ])('asks TORQUE in each pass if the folder of logs %s, and says so once', async (_, spoil, problem) => {
    spoil();
    gridJob('1', { record: 'exitcode=0\n' });
    qstat({ id: '1.vm', state: 'R' });
    await passes(1, { logDirectory: logs });
    qstat({ id: '1.vm', state: 'C', exitStatus: 0 });
    expect(await passes(1, { logDirectory: logs })).toEqual(['1']);
    if (problem !== undefined) expect(log[0]).toContain(problem);
  });

  it.each([
    '',
    '{',
    '{"version":1}',
    '{"version":1,"processing":"0:0","comparedAt":0,"jobs":[["1"]],"absent":[]}',
  ])('does without a damaged state: %j', async (text) => {
    await settledSite();
    writeFileSync(join(control, 'vmbatch-scan.state'), text);
    ended(0);
    expect(await scanOnce(withLog())).toEqual(['1']);
    expect(log.join('\n')).toContain('starting without it');
  });

  it('does not believe its state about another folder', async () => {
    await settledSite();
    const state = join(control, 'vmbatch-scan.state');
    writeFileSync(state, readFileSync(state, 'utf8').replace(/"processing":"[^"]*"/, '"processing":"1:1"'));
    rmSync(status('1'));
    expect(await scanOnce(withLog())).toEqual([]);
    expect(calls().filter((call) => call.startsWith('qdel'))).toEqual([]);
  });

  it('reports an end to A-REX while it runs, and ends at once when told to', async () => {
    await settledSite();
    const running = scan(withLog());
    await setTimeout(300);
    ended(0, { ago: 0 });
    for (let tries = 0; tries < 500 && done('1') === undefined; tries++) await setTimeout(10);
    expect(done('1')).toBe('0\n');
    const stopped = performance.now();
    stop.abort();
    await running;
    expect(performance.now() - stopped).toBeLessThan(1_000);
  });

  it('goes on when its control directory is away for a while', async () => {
    await settledSite();
    const running = scan(withLog());
    renameSync(control, `${control}.away`);
    for (let tries = 0; tries < 300 && log.length === 0; tries++) await setTimeout(10);
    expect(log.join('\n')).toContain(`${control}: `);
    renameSync(`${control}.away`, control);
    ended(0, { ago: 0 });
    for (let tries = 0; tries < 500 && done('1') === undefined; tries++) await setTimeout(10);
    expect(done('1')).toBe('0\n');
    stop.abort();
    await running;
    expect(calls().filter((call) => call.startsWith('qdel'))).toEqual([]);
  });

  it.each([
    ['killed for a limit, whatever it says itself', 'exitcode=0\n', -11],
    ['that left no record', '', 251],
  ])('waits for the output of a job %s', async (_, record, exitStatus) => {
    await settledSite(record);
    ended(exitStatus);
    const answer = (state: string) => {
      qstat({ id: '1.vm', state, exitStatus });
      torque.answer('qstat-job', { stdout: readFileSync(join(torque.directory, 'qstat.out'), 'utf8') });
    };
    answer('E');
    expect(await scanOnce(withLog())).toEqual([]);
    put(`${session('1')}.comment`, 'the reason\n');
    answer('C');
    expect(await scanOnce(withLog())).toEqual(['1']);
    expect(done('1')).toMatch(new RegExp(`^${exitStatus} .*: the reason\n$`));
  });

  it('does not take the end of an earlier batch job for that of the one that A-REX waits for', async () => {
    await settledSite();
    put(controlFile('1', 'local'), `localid=2.vm\nsessiondir=${session('1')}\n`);
    ended(0);
    qstat({ id: '2.vm', state: 'R' });
    expect(await passes(2, { logDirectory: logs })).toEqual([]);
    ended(0, { job: '2.vm' });
    expect(await scanOnce(withLog())).toEqual(['1']);
  });

  it('gets signals through while it reads a log that is far ahead, and then reports what it told', async () => {
    gridJob('1', { record: 'exitcode=0\n' });
    qstat({ id: '1.vm', state: 'R' });
    ended(0);
    // Some reads' worth of other people's jobs, and more of them than are remembered.
    const noise = Array.from(
      { length: 60_000 },
      (_, at) =>
        `11/22/2026 09:17:17.155;256;PBS_Server.1;Job;${at + 100}.vm;enqueuing into vmalice, state 1 hop 1\n`,
    );
    for (let part = 0; part < 3; part++) appendFileSync(join(logs, '20261122'), noise.join(''));
    const scanner = new Scanner(withLog());
    expect(await scanner.pass()).toEqual([]);
    expect(scanner.isBehind).toBe(true);
    while (scanner.isBehind) await scanner.pass();
    stop.abort();
    await scanner.end();
    expect(done('1')).toBe('0\n');
  });

  it('takes no job for gone when the folder is another one all of a sudden', async () => {
    await settledSite();
    const running = scan(withLog());
    await setTimeout(200);
    renameSync(join(control, 'processing'), join(control, 'away'));
    mkdirSync(join(control, 'processing'));
    for (let tries = 0; tries < 300 && log.length === 0; tries++) await setTimeout(10);
    stop.abort();
    await running;
    expect(log).toEqual([`${control}: is another folder now`]);
    expect(JSON.parse(readFileSync(join(control, 'vmbatch-scan.state'), 'utf8'))).toMatchObject({
      jobs: [],
      absent: [],
    });
  });
});
