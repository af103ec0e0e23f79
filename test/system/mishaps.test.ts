// What happens to jobs in the life of a site: deleted at any moment, hooks that hang or are killed, moms,
// servers and nodes that go down. Each with the code that the grid user finally sees, and nothing left on the
// node. Fake guests, everything else real.

import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { audit } from '../site/audit.ts';
import { createGridJob, type GridJob, jalienJob, startScan, stopScan } from '../site/grid-job.ts';
import { guestProcesses } from '../site/guests.ts';
import { holdGuests } from '../site/holds.ts';
import { hookProcesses } from '../site/processes.ts';
import { runSheltered } from '../site/sheltered.ts';
import type { Site } from '../site/site.ts';
import { useFakeSite } from './fake-site.ts';

const NOTHING = { domains: 0, disks: 0, isos: 0, leases: 0, locks: 0, keys: 0, processes: 0 };
const END_MS = 40_000;

const theSite = useFakeSite('mishaps');
let site: Site;
let scan: ChildProcess;

beforeAll(async () => {
  site = theSite();
  site.configureNode({});
  scan = startScan(site);
  // A scan that has just started asks qstat about everything, and qstat does not say who deleted a job: the
  // log does, which it follows from then on.
  const { job } = await submitted('true');
  expect(await job.waitForEnd(END_MS)).toMatchObject({ code: 0 });
}, 60_000);
afterAll(() => stopScan(scan));
beforeEach(() => site.configureNode({}));
afterEach(async () => {
  await until(
    async () => JSON.stringify(await audit(site)) === JSON.stringify(NOTHING),
    'nothing is left',
  ).catch(async () => expect(await audit(site)).toEqual(NOTHING));
});

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await sleep(20);
  }
}

async function submitted(script: string): Promise<{ job: GridJob; id: string }> {
  const job = createGridJob(site, jalienJob(`#!/bin/bash\n${script}\n`, { name: 'in', text: '' }));
  const { localId, exitCode, stderr } = await job.submit();
  expect(exitCode, stderr).toBe(0);
  return { job, id: localId ?? '' };
}

/** One whose script runs in its guest until a file is there. */
async function running(exitCode = 0): Promise<{ job: GridJob; id: string; finish: () => void }> {
  const found = await submitted(`touch started; while [ ! -e go ]; do sleep 0.1; done; exit ${exitCode}`);
  await until(() => existsSync(join(found.job.session, 'started')), 'the job runs');
  return { ...found, finish: () => writeFileSync(join(found.job.session, 'go'), '') };
}

const command = (name: string, ...args: string[]) => site.asUser(join(site.standin.binDir, name), args);
const qdel = async (id: string) => expect((await command('qdel', id)).stderr).toBe('');

async function stateOf(id: string): Promise<string> {
  return /^ *job_state = (\w)$/m.exec((await command('qstat', '-f', '-1', id)).stdout)?.[1] ?? '?';
}

const record = (id: string) => join(site.state, 'jobs', id, 'record.json');

async function processOf(id: string, what: 'prologue' | 'run' | 'epilogue'): Promise<number> {
  await until(() => hookProcesses(id, what).length > 0, `${what} of ${id}`);
  return hookProcesses(id, what)[0] ?? 0;
}

const vmbatch = (...words: string[]) =>
  runSheltered(join(site.dist, 'vmbatch'), [...words, '--config', site.nodeFile], {
    env: { ...site.env, PATH: `${join(site.directory, 'fake/bin')}:${site.env['PATH']}` },
  });

describe('a job that is deleted', () => {
  it('while it waits in the queue ends with -1', async () => {
    await runSheltered(join(site.standin.binDir, 'pbsnodes'), ['-o', 'vmbatch-node'], { env: site.env });
    try {
      const { job, id } = await submitted('true');
      expect(await stateOf(id)).toBe('Q');
      await qdel(id);
      expect(await job.waitForEnd(END_MS)).toEqual({
        code: -1,
        text: expect.stringMatching(
          /^Job was deleted from the batch system before it started, by vmbatch-test/,
        ),
      });
    } finally {
      await runSheltered(join(site.standin.binDir, 'pbsnodes'), ['-c', 'vmbatch-node'], { env: site.env });
    }
  });

  it.each(['network', 'overlay', 'domain'])(
    'while its prologue is past the step %s ends with -1',
    async (step) => {
      const release = holdGuests(site);
      try {
        const { job, id } = await submitted('true');
        await until(
          () => existsSync(record(id)) && readFileSync(record(id), 'utf8').includes(`"${step}"`),
          step,
        );
        await qdel(id);
        expect(await job.waitForEnd(END_MS)).toEqual({
          code: -1,
          text: expect.stringMatching(/^Job was deleted from the batch system \(qdel\) by vmbatch-test/),
        });
      } finally {
        release();
      }
    },
  );

  it('while it runs ends with 271', async () => {
    const { job, id } = await running();
    await qdel(id);
    expect(await job.waitForEnd(END_MS)).toMatchObject({ code: 271 });
  });

  it('while its epilogue runs keeps its own exit code', async () => {
    const { job, id, finish } = await running(7);
    // A share that is slow is enough of a delay: the epilogue is stopped and goes on later.
    finish();
    const epilogue = await processOf(id, 'epilogue');
    process.kill(epilogue, 'SIGSTOP');
    await command('qdel', id);
    process.kill(epilogue, 'SIGCONT');
    expect(await job.waitForEnd(END_MS)).toEqual({ code: 7, text: 'Job exited with code 7' });
  });

  it('when it is over keeps its own exit code', async () => {
    const { job, id, finish } = await running(0);
    finish();
    await until(async () => (await stateOf(id)) === 'C', 'the job is complete');
    await command('qdel', id);
    expect(await job.waitForEnd(END_MS)).toEqual({ code: 0, text: '' });
  });
});

describe('a prologue', () => {
  it('that hangs is killed by the mom after $prologalarm, and the job runs at the next attempt', async () => {
    const config = readFileSync(site.standin.momConfigPath, 'utf8');
    writeFileSync(site.standin.momConfigPath, config.replace(/\$prologalarm \d+/, '$prologalarm 4'));
    const release = holdGuests(site);
    try {
      const { job, id } = await submitted('true');
      await until(
        () => existsSync(record(id)) && readFileSync(record(id), 'utf8').includes('"domain"'),
        'domain',
      );
      process.kill(await processOf(id, 'prologue'), 'SIGSTOP');
      release();
      expect(await job.waitForEnd(END_MS)).toEqual({ code: 0, text: '' });
      const history = readFileSync(join(site.state, 'history.jsonl'), 'utf8');
      expect(history.split('\n').filter((line) => line.includes(id))).toHaveLength(2);
    } finally {
      release();
      writeFileSync(site.standin.momConfigPath, config);
    }
  });

  it('that is killed by a signal counts as success for TORQUE; the starter refuses with 251', async () => {
    const release = holdGuests(site);
    try {
      const { job, id } = await submitted('touch ran');
      process.kill(await processOf(id, 'prologue'), 'SIGKILL');
      expect(await job.waitForEnd(END_MS)).toEqual({
        code: 251,
        text: expect.stringMatching(
          /its node or guest failed: vmbatch: node fault: there is no ready guest for job/,
        ),
      });
      expect(existsSync(join(job.session, 'ran'))).toBe(false);
    } finally {
      release();
    }
  });
});

describe('an epilogue', () => {
  it('that is killed leaves what the next one has removed, and the job has its own exit code', async () => {
    const first = await running(3);
    first.finish();
    const epilogue = await processOf(first.id, 'epilogue');
    process.kill(epilogue, 'SIGKILL');
    expect(await first.job.waitForEnd(END_MS)).toMatchObject({ code: 3 });
    const next = await submitted('true');
    expect(await next.job.waitForEnd(END_MS)).toMatchObject({ code: 0 });
  });
});

describe('a mom that is killed', () => {
  it('and started with -p lets the job go on, whose own exit code counts', async () => {
    const { job, finish } = await running(5);
    await site.standin.killMom();
    await site.standin.startMom('-p');
    finish();
    expect(await job.waitForEnd(END_MS)).toEqual({ code: 5, text: 'Job exited with code 5' });
  });

  it.each(['-q', '-r'] as const)(
    'and started with %s kills the job, which is not started again: grid jobs are not rerunnable',
    async (mode) => {
      const { job, id } = await running(0);
      await site.standin.killMom();
      await site.standin.startMom(mode);
      expect(await job.waitForEnd(END_MS)).toEqual({
        code: -4,
        text: 'Job was aborted: the batch daemon of its node was restarted',
      });
      const history = readFileSync(join(site.state, 'history.jsonl'), 'utf8');
      expect(history.split('\n').filter((line) => line.includes(`"${id}"`))).toHaveLength(1);
    },
  );

  it('during a prologue has the job started again', async () => {
    const release = holdGuests(site);
    const { job, id } = await submitted('true');
    await until(() => existsSync(record(id)), 'its prologue');
    await site.standin.killMom();
    await site.standin.startMom();
    release();
    expect(await job.waitForEnd(END_MS)).toEqual({ code: 0, text: '' });
  });
});

describe('a node that is started again', () => {
  it.each(['-p', '-q', '-r'] as const)(
    'with pbs_mom %s: its job is reported as not run to its end',
    async (mode) => {
      const { job, id } = await running(0);
      await site.standin.killMom();
      process.kill(await processOf(id, 'run'), 'SIGKILL');
      for (const { pid } of guestProcesses(site.serverName)) process.kill(pid, 'SIGKILL');
      // As its record is after the machine was down: of another start of it.
      const path = record(id);
      writeFileSync(path, readFileSync(path, 'utf8').replace(/"boot": "[^"]*"/, '"boot": "an earlier one"'));
      // Before the mom is up again, as the timer has it at boot.
      expect((await vmbatch('reap')).stdout).toContain('the node has been started again since');
      await site.standin.startMom(mode);
      expect(await job.waitForEnd(END_MS)).toEqual({
        code: -1,
        text: expect.stringMatching(/^Job did not run to its end: the batch system reports exit code 0/),
      });
    },
  );
});

describe('a server that is down', () => {
  it('while jobs end hears of them later, and their own exit codes count', async () => {
    const { job, finish } = await running(9);
    await site.standin.killServer();
    finish();
    await sleep(1_500);
    expect(existsSync(job.file('lrms_done'))).toBe(false);
    await site.standin.startServer();
    expect(await job.waitForEnd(END_MS)).toEqual({ code: 9, text: 'Job exited with code 9' });
  });
});

describe('a black hole', () => {
  const states = async () => (await command('pbsnodes', '-a')).stdout;

  /** The image is away: every job fails on this node. */
  async function withoutImage(work: () => Promise<void>): Promise<void> {
    const image = join(site.directory, 'fake/image.qcow2');
    renameSync(image, `${image}.away`);
    try {
      await work();
    } finally {
      if (existsSync(`${image}.away`)) renameSync(`${image}.away`, image);
    }
  }
  const bringImageBack = () =>
    renameSync(join(site.directory, 'fake/image.qcow2.away'), join(site.directory, 'fake/image.qcow2'));
  const guard = (changes: object) => ({
    guard: { faults: 3, pbs_bin_path: site.standin.binDir, ...changes },
  });

  it('is taken offline after three jobs, and its jobs run when an admin has brought it back', async () => {
    site.configureNode(guard({}));
    await withoutImage(async () => {
      const jobs = [await submitted('true'), await submitted('true'), await submitted('true')];
      await until(async () => /state = .*offline/.test(await states()), 'offline');
      expect(await states()).toContain('note = vmbatch: 3 jobs in a row failed on this node: image-absent');
      expect(readFileSync(join(site.log, 'vmbatch.log'), 'utf8')).toContain('this node is taken offline');
      expect((await vmbatch('node', 'status')).stdout).toMatch(/^offline since .*\(guard, set\)/);
      expect((await vmbatch('node', 'health')).stdout).toBe(
        'ERROR vmbatch: 3 jobs in a row failed on this node: image-absent\n',
      );
      bringImageBack();
      expect(await vmbatch('node', 'enable')).toMatchObject({ exitCode: 0 });
      expect(await states()).not.toContain('offline');
      for (const { job } of jobs) expect(await job.waitForEnd(END_MS)).toEqual({ code: 0, text: '' });
      expect((await vmbatch('node', 'status')).stdout).toBe('in service\n0 faults in a row\n');
    });
  });

  it('comes back by itself when the guest of a self-test starts', async () => {
    site.configureNode(
      guard({ return: 'self-test', self_test_every: '1 ms', self_test_user: site.account.name }),
    );
    await withoutImage(async () => {
      const jobs = [await submitted('true'), await submitted('true'), await submitted('true')];
      await until(async () => /state = .*offline/.test(await states()), 'offline');
      expect((await vmbatch('reap')).stdout).toMatch(/the self-test failed, the node stays offline: .*image/);
      bringImageBack();
      expect((await vmbatch('reap')).stdout).toMatch(/a guest started in [\d.]+ s: the node comes back/);
      for (const { job } of jobs) expect(await job.waitForEnd(END_MS)).toEqual({ code: 0, text: '' });
    });
  });

  it('is none if a single job fails', async () => {
    site.configureNode(guard({}));
    const bad = createGridJob(site, jalienJob('#!/bin/bash\ntrue\n', { name: 'in', text: '' }));
    writeFileSync(
      bad.file('grami'),
      `${readFileSync(bad.file('grami'), 'utf8')}joboption_memory=99999999\n`.replace(
        'joboption_memory=\n',
        '',
      ),
    );
    await bad.submit();
    expect(await bad.waitForEnd(END_MS)).toMatchObject({ code: -2 });
    expect((await vmbatch('node', 'status')).stdout).toBe('in service\n0 faults in a row\n');
  });
});
