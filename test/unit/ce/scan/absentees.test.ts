import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { scanOnce } from '../../../../src/ce/scan/scan.ts';
import {
  belongsTo,
  calls,
  control,
  controlFile,
  gridJob,
  log,
  options,
  passes,
  put,
  qstat,
  ROOT,
  session,
  status,
  torque,
  USER,
  useScanSite,
} from './site.ts';

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
function knownAs(state: string, more = belongsTo('1')): void {
  qstat({ id: '1.vm', state, more });
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
      expect(log.join('\n')).toContain(
        '(qdel exited with 224: qdel: Server could not connect to MOM); trying again',
      );
      knownAs('C');
      await passes(2);
      expect(deletions().length).toBe(2);
    },
  );

  it.each([
    ['of another account', () => belongsTo('1', 'root')],
    ['of another grid job', () => belongsTo('2')],
    ['that was not submitted by A-REX', () => belongsTo('1').replace('.comment', '.e1')],
    ['whose owner no account here is', () => belongsTo('1', 'no-such-account')],
  ])('leaves alone a batch job %s, and says so once', async (_, more) => {
    moveTo('finished', 'FINISHED');
    knownAs('R', more());
    await passes(2);
    expect(deletions()).toEqual([]);
    expect(log.filter((line) => line.includes('job 1: batch job 1.vm'))).not.toEqual([]);
  });

  it('leaves alone a batch job that another grid job waits for', async () => {
    gridJob('2', { localId: '1.vm' });
    moveTo('finished', 'FINISHED');
    await passes(2);
    expect(deletions()).toEqual([]);
  });

  it.runIf(ROOT)('deletes with the user and group of the job only', async () => {
    writeFileSync(
      join(torque.binPath, 'qdel'),
      `#!/bin/sh\necho "$(id -u) $(id -g) $(id -G) $*" >> ${torque.directory}/calls\n`,
    );
    moveTo('finished', 'FINISHED');
    await passes(1);
    expect(calls()).toContain(`${USER.uid} ${USER.gid} ${USER.gid} 1.vm`);
  });

  it('deletes nothing for a job whose files belonged to root', async () => {
    const file = join(control, 'vmbatch-scan.state');
    writeFileSync(file, readFileSync(file, 'utf8').replace(/\["1","1.vm",\d+,\d+/, '["1","1.vm",0,0'));
    moveTo('finished', 'FINISHED');
    await passes(2);
    expect(deletions()).toEqual([]);
    expect(log.filter((line) => line.includes('is left alone'))).toHaveLength(1);
  });

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

  it('deletes nothing when many jobs vanish at once, and names them', async () => {
    for (const id of ['2', '3', '4']) gridJob(id);
    knownAs('R');
    await passes(1);
    for (const id of ['1', '2', '3', '4']) {
      rmSync(status(id));
      rmSync(controlFile(id, 'local'));
    }
    await passes(1);
    letTimePass();
    await passes(2);
    expect(deletions()).toEqual([]);
    expect(calls().filter((call) => call.startsWith('qstat|-x 1.vm'))).toEqual([]);
    expect(log.filter((line) => line.includes('4 jobs vanished at once'))).toEqual([
      expect.stringContaining('qdel 1.vm 2.vm 3.vm 4.vm'),
    ]);
  });

  it('takes jobs for there when the other kind of control directory appears beside theirs', async () => {
    mkdirSync(join(control, 'jobs'));
    await passes(1);
    letTimePass();
    await passes(1);
    expect(deletions()).toEqual([]);
    put(`${session('1')}.diag`, 'exitcode=0\n');
    knownAs('C');
    expect(await passes(1)).toEqual(['1']);
  });

  it('finds a job of the old kind in the folders where all others are of the new one', async () => {
    for (const id of ['a', 'b', 'c']) writeFileSync(join(control, 'processing', `${id}.status`), 'SUBMIT');
    moveTo('restarting', 'INLRMS');
    await passes(1);
    letTimePass();
    await passes(1);
    expect(deletions()).toEqual([]);
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
