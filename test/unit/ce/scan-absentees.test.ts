import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { scanOnce } from '../../../src/ce/scan.ts';
import {
  calls,
  control,
  controlFile,
  gridJob,
  log,
  options,
  passes,
  put,
  qstat,
  session,
  status,
  torque,
  useScanSite,
} from './scan-site.ts';

useScanSite();

beforeEach(async () => {
  for (const folder of ['accepting', 'restarting', 'finished']) mkdirSync(join(control, folder));
  gridJob('1');
  knownAs('R');
  await scanOnce(options());
  // qdel is called as the job's user, and writes down that it was.
  chmodSync(join(torque.directory, 'calls'), 0o666);
});

/** What TORQUE says of the job, in the list and when it is asked for it. */
function knownAs(state: string): void {
  qstat({ id: '1.vm', state });
  torque.answer('qstat-job', { stdout: readFileSync(join(torque.directory, 'qstat.out'), 'utf8') });
}

/** A-REX moves the job. */
function moveTo(folder: string, state: string): void {
  writeFileSync(join(control, folder, 'job.1.status'), state);
  rmSync(status('1'));
}

const deletions = () => calls().filter((call) => call.startsWith('qdel'));

/** The next attempt is a minute later. */
function letTimePass(): void {
  const file = join(control, 'vmbatch-scan.state');
  const state = JSON.parse(readFileSync(file, 'utf8'));
  for (const job of state.absent) job.leftAt -= 60_000;
  writeFileSync(file, JSON.stringify(state));
}

describe('scan, when A-REX let go of a job that TORQUE still has', () => {
  it.each(['FINISHED', 'DELETED'])(
    'deletes the batch job of one that is %s, until it is gone',
    async (state) => {
      moveTo('finished', state);
      torque.answer('qdel', { exitCode: 224, stderr: 'qdel: Server could not connect to MOM\n' });
      await passes(2);
      expect(deletions()).toEqual(['qdel|1.vm', 'qdel|1.vm']);
      expect(log.join('\n')).toContain(
        'A-REX is done with it, but batch job 1.vm is still there: deleting it',
      );
      expect(log.join('\n')).toContain('could not connect to MOM; trying again');
      knownAs('C');
      await passes(2);
      expect(deletions().length).toBe(2);
    },
  );

  it('leaves alone what TORQUE does not know any more', async () => {
    moveTo('finished', 'FINISHED');
    rmSync(join(torque.directory, 'qstat-job.code'));
    await passes(2);
    expect(deletions()).toEqual([]);
    expect(calls().filter((call) => call === 'qstat|-x 1.vm').length).toBe(1);
  });

  it('deletes nothing as long as TORQUE does not answer', async () => {
    moveTo('finished', 'FINISHED');
    torque.answer('qstat-job', { exitCode: 111 });
    await passes(2);
    expect(deletions()).toEqual([]);
    knownAs('R');
    await passes(1);
    expect(deletions().length).toBe(1);
  });

  it.each([
    ['restarting', 'INLRMS'],
    ['accepting', 'ACCEPTED'],
    ['finished', 'SOMETHING'],
  ])('touches none that is in %s as %s, and watches it again when it is back', async (folder, state) => {
    moveTo(folder, state);
    await passes(2);
    expect(deletions()).toEqual([]);
    renameSync(join(control, folder, 'job.1.status'), status('1'));
    writeFileSync(status('1'), 'INLRMS');
    put(`${session('1')}.diag`, 'exitcode=0\n');
    knownAs('C');
    expect(await passes(1)).toEqual(['1']);
  });

  it('touches none that has become another batch job', async () => {
    put(controlFile('1', 'local'), `localid=2.vm\nsessiondir=${session('1')}\n`);
    moveTo('finished', 'FINISHED');
    await passes(2);
    expect(deletions()).toEqual([]);
  });

  it('deletes that of a job all of whose files are gone, but not at the first look', async () => {
    rmSync(status('1'));
    rmSync(controlFile('1', 'local'));
    await passes(1);
    expect(deletions()).toEqual([]);
    letTimePass();
    await passes(1);
    expect(deletions()).toEqual(['qdel|1.vm']);
  });

  it('takes a control directory that is out of sight for no end of its jobs', async () => {
    renameSync(join(control, 'processing'), join(control, 'away'));
    mkdirSync(join(control, 'processing'));
    rmSync(controlFile('1', 'local'));
    await passes(1);
    letTimePass();
    await passes(1);
    expect(deletions()).toEqual([]);
  });
});
