// A file server that is away, and what the scan then does for those whose files are elsewhere.
import { type ChildProcess, spawn } from 'node:child_process';
import { chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { scan, scanOnce } from '../../../../src/ce/scan/scan.ts';
import {
  control,
  controlFile,
  done,
  gridJob,
  log,
  options,
  put,
  qstat,
  ROOT,
  status,
  stop,
  torque,
  useScanSite,
} from './site.ts';

useScanSite();

const OTHER = { uid: 54321, gid: 54321 };
let share: string;
let server: ChildProcess;

/** Whose server never answers. */
async function mountHungShare(): Promise<void> {
  share = join(torque.directory, 'hung');
  mkdirSync(share, { mode: 0o755 });
  const program = join(import.meta.dirname, '../../../support/hung-share.py');
  server = spawn('python3', [program, share], { stdio: ['pipe', 'pipe', 'inherit'] });
  await new Promise((resolve) => server.stdout?.once('data', resolve));
}

async function unmount(): Promise<void> {
  if (server.exitCode !== null) return;
  const over = new Promise((resolve) => server.once('exit', resolve));
  server.stdin?.end();
  await over;
}

/** A job whose session directory is on that share. */
function hungJob(id: string): void {
  writeFileSync(status(id), 'INLRMS');
  put(controlFile(id, 'local'), `localid=${id}.vm\nsessiondir=${share}/${id}\n`);
  put(controlFile(id, 'errors'), 'log\n');
}

const until = async (condition: () => boolean) => {
  for (let tries = 0; tries < 600 && !condition(); tries++) await setTimeout(50);
  expect(condition()).toBe(true);
};

describe.runIf(ROOT)('a scan, while a file server is away', { timeout: 60_000 }, () => {
  beforeEach(mountHungShare);
  afterEach(unmount);

  it('reports the jobs of other accounts, and of the same account on other servers', async () => {
    for (const id of ['1', '2', '3']) hungJob(id);
    for (const id of ['4', '5']) gridJob(id, { record: 'exitcode=0\n' });
    chownSync(controlFile('5', 'local'), OTHER.uid, OTHER.gid);
    qstat(...['1', '2', '3', '4', '5'].map((id) => ({ id: `${id}.vm`, state: 'C', exitStatus: 0 })));
    const scanning = scan({ ...options(), fileMs: 60_000 });
    await until(() => done('4') !== undefined && done('5') !== undefined);
    const told = performance.now();
    stop.abort();
    await scanning;
    // It does not wait for the server when it is told to end.
    expect(performance.now() - told).toBeLessThan(6_000);
    expect([done('1'), done('2'), done('3')]).toEqual([undefined, undefined, undefined]);
  });

  it('says what it waits for, once, and reports the rest when the server is back', async () => {
    hungJob('1');
    qstat({ id: '1.vm', state: 'C', exitStatus: 3 });
    const scanning = scan({ ...options(), fileMs: 1_000 });
    await until(() => log.length > 0);
    await setTimeout(3_000);
    expect(log).toEqual([
      expect.stringMatching(/\/hung does not answer: is its file server up\? .* uid \d+ there/),
    ]);
    expect(done('1')).toBeUndefined();
    await unmount();
    mkdirSync(join(share, '1'));
    put(`${share}/1.diag`, 'exitcode=7\n');
    await until(() => done('1') !== undefined);
    stop.abort();
    await scanning;
    expect(done('1')).toBe('7 Job exited with code 7\n');
  });

  it('a single pass ends, and the next one begins where it stopped', async () => {
    for (const id of ['1', '2']) hungJob(id);
    gridJob('4', { record: 'exitcode=0\n' });
    qstat(...['1', '2', '4'].map((id) => ({ id: `${id}.vm`, state: 'C', exitStatus: 0 })));
    expect(await scanOnce({ ...options(), fileMs: 1_000 })).toEqual(['4']);
    expect(readFileSync(join(control, 'vmbatch-scan.state'), 'utf8')).toContain('1.vm');
  });
});
