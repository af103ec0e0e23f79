// The reaper on a node of real files: what it finds, what it leaves alone, and that a job which starts
// meanwhile is not touched.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { takeLease } from '../../../../src/guest/network/lease.ts';
import { thisProcess } from '../../../../src/hypervisor/guest-process.ts';
import { claimJob } from '../../../../src/node/claim.ts';
import { momJobsDirectory } from '../../../../src/node/mom-jobs.ts';
import { somethingIsLeft } from '../../../../src/node/reap/reap.ts';
import { jobPaths, readRecord, writeRecord } from '../../../../src/node/record.ts';
import { type FakeNode, fakeNode, leftOn } from '../../../support/fake-node.ts';

const NOBODY = 65534;
const [DEAD, LIVING] = ['7.server', '8.server'];
let node: FakeNode;

beforeEach(async () => {
  node = await fakeNode('timeouts: { ready: 1 s }\nstarts: 0');
});
afterEach(() => node.remove());

const paths = (jobId: string) => jobPaths(node.config.state, jobId);
const aDayLater = () => Date.now() + 25 * 60 * 60_000;
const leases = () => join(node.config.state, 'leases');

function changeRecord(jobId: string, changes: object): void {
  const record = readRecord(paths(jobId));
  if (record === undefined) throw new Error('no record');
  writeRecord(paths(jobId), { ...record, ...changes });
}

/** Both run; then the mom forgets one without an epilogue. */
async function oneOfTwoDies(): Promise<void> {
  await node.start(DEAD);
  await node.start(LIVING);
  node.forget(DEAD);
}

async function expectOnlyTheLiving(): Promise<void> {
  expect([...node.domains]).toEqual([`vmbatch-${LIVING}`]);
  expect(existsSync(paths(DEAD).directory)).toBe(false);
  await node.end(LIVING);
  expect(leftOn(node, LIVING)).toEqual([]);
}

describe.runIf(process.getuid?.() === 0)('reap', () => {
  it('removes all that a job has left which the mom forgot, and nothing of one that lives', async () => {
    await oneOfTwoDies();
    expect(await somethingIsLeft(node.config.state)).toBe(true);
    const { findings, alive } = await node.reap();
    expect(findings).toMatchObject([
      { jobId: DEAD, why: 'the mom does not know it (any more)', done: 'removed' },
    ]);
    expect(alive).toEqual([LIVING]);
    expect(await somethingIsLeft(node.config.state)).toBe(false);
    expect(readFileSync(join(node.config.state, 'history.jsonl'), 'utf8')).toContain('"code":"reaped"');
    await expectOnlyTheLiving();
  });

  it('says what it would remove in a dry run, and removes nothing', async () => {
    await oneOfTwoDies();
    const before = leftOn(node, DEAD);
    const { findings } = await node.reap({ dryRun: true });
    expect(findings).toMatchObject([{ jobId: DEAD, done: 'would-remove' }]);
    expect(findings[0]?.things).toContain('domain');
    expect(leftOn(node, DEAD)).toEqual(before);
  });

  it('takes a job of an earlier start of the machine for dead, though the mom remembers it', async () => {
    await node.start(DEAD);
    await node.start(LIVING);
    changeRecord(DEAD, { boot: 'c0ffee00-0000-0000-0000-000000000000' });
    expect((await node.reap()).findings).toMatchObject([{ jobId: DEAD, done: 'removed' }]);
    await expectOnlyTheLiving();
  });

  it('asks the mom about a job whose record an older version has made', async () => {
    await node.start(LIVING);
    changeRecord(LIVING, { boot: undefined, mom: undefined });
    expect(await node.reap()).toMatchObject({ findings: [], alive: [LIVING] });
    node.forget(LIVING);
    expect((await node.reap()).findings).toMatchObject([{ jobId: LIVING, done: 'removed' }]);
  });

  it('leaves a job alone whose prologue runs, also one that the mom does not know', async () => {
    await node.start(DEAD);
    node.forget(DEAD);
    changeRecord(DEAD, { prologue: thisProcess() });
    expect(await node.reap()).toMatchObject({ findings: [], alive: [DEAD] });
    expect(node.domains.size).toBe(1);
  });

  it.each([
    ['its hook', 'prologue', (jobId: string) => [jobId], 0, true],
    ['a hook of another job', 'prologue', () => ['6.server'], 0, false],
    ['its starter', 'vmbatch', () => ['run'], NOBODY, true],
    ['a process that another user calls so', 'vmbatch', () => ['run'], 1, false],
    ['something else that names it', 'x', (jobId: string) => [jobId], 0, false],
  ])('tells by the processes whether a job lives: %s', async (_what, name, words, uid, lives) => {
    await node.start(DEAD);
    node.forget(DEAD);
    const program = join(node.directory, name);
    writeFileSync(program, 'sleep 60\n');
    // As the kernel has it for a script: its interpreter, its path, its words.
    const env = { PATH: '/usr/bin:/bin', PBS_JOBID: DEAD };
    const child = spawn('sh', [program, ...words(DEAD)], { stdio: 'ignore', env, uid, gid: uid });
    await once(child, 'spawn');
    try {
      expect((await node.reap()).alive).toEqual(lives ? [DEAD] : []);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('leaves the guest of another node alone that a shell watches over', async () => {
    await node.start(DEAD);
    node.forget(DEAD);
    const words = ['-c', 'sleep 60; exit', 'vmbatch-watcher', '/share', paths(DEAD).directory];
    const child = spawn('sh', words, { stdio: 'ignore' });
    await once(child, 'spawn');
    try {
      expect(await node.reap()).toMatchObject({ findings: [], alive: [DEAD] });
    } finally {
      child.kill('SIGKILL');
    }
  });

  it("knows a job of an array by the mom's name for it", async () => {
    await node.start(DEAD);
    const directory = paths('113[4].server').directory;
    mkdirSync(directory);
    const file = join(momJobsDirectory(node.config.state) ?? '', '113-4.server.JB');
    writeFileSync(file, '');
    expect(await node.reap()).toMatchObject({ findings: [], alive: [DEAD, '113[4].server'] });
    unlinkSync(file);
    expect((await node.reap()).findings).toMatchObject([{ jobId: '113[4].server', done: 'removed' }]);
    await node.end(DEAD);
  });

  it('takes a new script for a job just begun, and an old one for what a killed mom left', async () => {
    await node.start(DEAD);
    const script = join(momJobsDirectory(node.config.state) ?? '', `${DEAD}.SC`);
    node.forget(DEAD);
    writeFileSync(script, '');
    expect(await node.reap()).toMatchObject({ findings: [], alive: [DEAD] });
    const before = Date.now() / 1000 - 120;
    utimesSync(script, before, before);
    expect((await node.reap()).findings).toMatchObject([{ jobId: DEAD, done: 'removed' }]);
    expect(leftOn(node, DEAD)).toEqual([]);
  });

  it('leaves a job alone that somebody else works on', async () => {
    await oneOfTwoDies();
    const release = await claimJob(node.config.state, DEAD, 0);
    expect((await node.reap()).findings).toMatchObject([{ jobId: DEAD, done: 'busy' }]);
    expect(node.domains.size).toBe(2);
    release?.();
    expect((await node.reap()).findings).toMatchObject([{ jobId: DEAD, done: 'removed' }]);
  });

  it.each([
    ['gone', 'removed'],
    ['running', undefined],
    [undefined, 'unknown'],
  ] as const)('asks the batch server where the mom cannot be asked: %s', async (answer, done) => {
    await node.start(DEAD);
    changeRecord(DEAD, { mom: '/nonexistent/jobs/7.server.JB' });
    const { findings } = await node.reap({ askServer: async () => answer });
    expect(findings.map((finding) => finding.done)).toEqual(done === undefined ? [] : [done]);
    expect(node.domains.size).toBe(done === 'removed' ? 0 : 1);
  });

  it('keeps a guest that is kept for somebody to look into, until its time is over', async () => {
    await node.start(DEAD);
    node.forget(DEAD);
    changeRecord(DEAD, { keptUntil: Date.now() + 60_000 });
    expect(await node.reap()).toMatchObject({ findings: [], kept: [DEAD] });
    expect(await somethingIsLeft(node.config.state)).toBe(false);
    changeRecord(DEAD, { keptUntil: Date.now() - 1 });
    expect(await somethingIsLeft(node.config.state)).toBe(true);
    expect((await node.reap()).findings).toMatchObject([{ jobId: DEAD, done: 'removed' }]);
    expect(leftOn(node, DEAD)).toEqual([]);
  });

  it.each(['absent', 'broken'])('finds all of a job by its name when its record is %s', async (how) => {
    await oneOfTwoDies();
    if (how === 'broken') writeFileSync(paths(DEAD).record, '{"half": ');
    else unlinkSync(paths(DEAD).record);
    const { findings } = await node.reap();
    expect(findings).toMatchObject([
      { jobId: DEAD, done: 'removed', why: expect.stringContaining('no record') },
    ]);
    expect(findings[0]?.things.map((thing) => thing.split(' ')[0])).toEqual([
      'domain',
      'session',
      'lease',
      'directory',
    ]);
    expect(readdirSync(join(node.config.state, 'sessions'))).toEqual([LIVING]);
    expect(readdirSync(leases())).toHaveLength(1);
    expect([...node.domains]).toEqual([`vmbatch-${LIVING}`]);
    await node.end(LIVING);
    // Whose ready file it is only a record says; what is old is removed by its age.
    const [ready = '', ...others] = leftOn(node, LIVING);
    expect([ready, others]).toEqual([expect.stringContaining(`${node.config.readyDirectory}/${DEAD}.`), []]);
    const share = { directory: node.config.readyDirectory, exists: async () => true };
    expect((await node.reap({ share })).findings).toEqual([]);
    // What NFS shows of a file that a guest is making just now.
    utimesSync(ready, 157, 157);
    expect((await node.reap({ share })).findings).toEqual([]);
    expect((await node.reap({ share, now: aDayLater })).findings).toMatchObject([
      { things: [ready], done: 'removed' },
    ]);
    expect(leftOn(node, LIVING)).toEqual([]);
  });

  it('leaves the ready file of a living job alone, however old it is', async () => {
    await node.start(LIVING);
    const share = { directory: node.config.readyDirectory, exists: async () => true };
    const { readyFile = '', nonce } = readRecord(paths(LIVING)) ?? {};
    writeFileSync(`${readyFile}.${nonce}`, 'half');
    expect((await node.reap({ share, now: aDayLater })).findings).toEqual([]);
    expect([readyFile, `${readyFile}.${nonce}`].every((path) => existsSync(path))).toBe(true);
  });

  it('leaves domains alone that are not of this state directory, whatever they are called', async () => {
    await node.start(LIVING);
    for (const name of ['vmbatch-9.other', 'vmbatch-9', 'web', 'vmbatch-notes']) node.domains.add(name);
    const { findings } = await node.reap();
    expect(findings).toEqual([]);
    expect(node.domains.size).toBe(5);
  });

  it('believes libvirt rather than a process that calls itself a guest of ours', async () => {
    await node.start(LIVING);
    const name = 'vmbatch-9.other';
    node.domains.add(name);
    const words = [
      '-c',
      'sleep 60; exit',
      '-name',
      `guest=${name}`,
      `${paths('9.other').directory}/overlay.qcow2`,
    ];
    const child = spawn('sh', words, { stdio: 'ignore' });
    await once(child, 'spawn');
    try {
      expect((await node.reap()).findings).toEqual([]);
      expect(node.domains.has(name)).toBe(true);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('leaves leases alone that another node holds', async () => {
    mkdirSync(leases(), { recursive: true });
    mkdirSync(join(node.config.state, 'jobs'), { recursive: true });
    writeFileSync(
      join(leases(), 'address-192.0.2.7'),
      JSON.stringify({ jobId: '9.server', node: 'other', since: 1 }),
    );
    takeLease(leases(), 'address-192.0.2.8', '9.server');
    writeFileSync(join(node.config.state, 'mom-jobs'), `${node.directory}/jobs\n`);
    const { findings } = await node.reap();
    expect(findings).toMatchObject([{ jobId: '9.server', things: [expect.stringContaining('192.0.2.8')] }]);
    expect(readdirSync(leases())).toEqual(['address-192.0.2.7']);
    expect(hostname()).not.toBe('other');
  });

  it('removes temporary files and claims whose processes have ended', async () => {
    await node.start(LIVING);
    const claims = join(node.config.state, 'claims');
    const dead = [
      join(node.config.state, 'queues.999999999.tmp'),
      join(leases(), '.new-999999999-00ff'),
      join(claims, '9.server,999999999,5,00ff'),
    ];
    const living = [join(node.config.state, `queues.${process.pid}.tmp`)];
    for (const path of [...dead, ...living]) writeFileSync(path, '');
    const { findings } = await node.reap();
    expect(findings).toMatchObject([{ jobId: undefined, done: 'removed' }]);
    expect(findings[0]?.things.toSorted()).toEqual(dead.toSorted());
    expect([...dead, ...living].filter((path) => existsSync(path))).toEqual(living);
  });

  it('goes on with the rest when one job cannot be dealt with at all', async () => {
    await oneOfTwoDies();
    node.forget(LIVING);
    const history = join(node.config.state, 'history.jsonl');
    // Nothing can be written there.
    mkdirSync(history);
    const { problems } = await node.reap();
    expect(problems).toHaveLength(2);
    expect(node.domains.size).toBe(0);
  });

  it('tells what it could not remove, and removes it the next time', async () => {
    await oneOfTwoDies();
    const { destroy } = node.hypervisor;
    node.hypervisor.destroy = () => Promise.reject(new Error('libvirt is away'));
    expect((await node.reap()).findings).toMatchObject([
      { jobId: DEAD, done: 'failed', errors: [expect.stringContaining('libvirt is away')] },
    ]);
    node.hypervisor.destroy = destroy;
    expect((await node.reap()).findings).toMatchObject([
      { jobId: DEAD, done: 'removed', things: ['domain'] },
    ]);
    await expectOnlyTheLiving();
  });

  it('never touches a job that starts meanwhile: 200 starts, with reaps and ends in between', async () => {
    let going = true;
    let reaps = 0;
    const reaper = async () => {
      for (; going; reaps++) {
        // A timer that is late would be served again before anything that came in.
        await turn();
        const { findings } = await node.reap();
        expect(findings.filter(({ done }) => done !== 'busy')).toEqual([]);
      }
    };
    const starter = async (first: number) => {
      for (let number = first; number < 200; number += 4) {
        const jobId = `${number}.server`;
        await node.start(jobId);
        expect(node.domains.has(`vmbatch-${jobId}`)).toBe(true);
        expect(readRecord(paths(jobId))?.steps.session).toBe('held');
        expect(existsSync(join(node.config.state, 'sessions', jobId, 'session.json'))).toBe(true);
        // As TORQUE: the epilogue first, then the mom forgets the job.
        expect(await node.end(jobId), node.logged.slice(-5).join('\n')).toBe(true);
        node.forget(jobId);
      }
    };
    const reapers = [reaper(), reaper()];
    await Promise.all([0, 1, 2, 3].map(starter));
    going = false;
    await Promise.all(reapers);
    expect(reaps).toBeGreaterThan(20);
    expect(node.domains.size).toBe(0);
    expect(readdirSync(leases())).toEqual([]);
    expect(readdirSync(join(node.config.state, 'claims'))).toEqual([]);
  }, 120_000);
});
