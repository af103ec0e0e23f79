import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { STEPS } from '../../../../src/node/life/steps/table.ts';
import { jobPaths, readRecord, STEP_NAMES, writeRecord } from '../../../../src/node/record.ts';
import { FAULT_OUTCOMES, VmbatchError } from '../../../../src/util/errors.ts';
import { type FakeNode, fakeNode, leftOn } from '../../../support/fake-node.ts';

const JOB = '7.server';
let node: FakeNode;

beforeEach(async () => {
  node = await fakeNode('timeouts: { ready: 1 s }');
});
afterEach(() => node.remove());

function history(): Record<string, unknown>[] {
  return readFileSync(join(node.config.state, 'history.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
}

// Files of another user are made and checked: only root can.
describe.runIf(process.getuid?.() === 0)('startGuest and endGuest', () => {
  it('make a guest with everything it needs, and leave nothing of it', async () => {
    await node.start(JOB);
    const paths = jobPaths(node.config.state, JOB);
    expect([...node.domains]).toEqual(['vmbatch-7.server']);
    expect(readRecord(paths)?.guest).toMatchObject({ hostname: 'guest', kernel: '6.1.0' });
    expect(statSync(paths.contextIso).mode & 0o777).toBe(0o600);
    const session = join(node.config.state, 'sessions', JOB, 'session.json');
    expect(statSync(session)).toMatchObject({ mode: 0o100400, uid: 65534 });
    expect(statSync(join(session, '..')).uid).toBe(0);

    expect(await node.end(JOB)).toBe(true);
    expect(leftOn(node, JOB)).toEqual([]);
    expect(history()).toMatchObject([{ jobId: JOB, exitStatus: 0, request: { image: 'demo' } }]);
  });

  it.each([
    ['nodes=wn1:ppn=4 or procs=4', 'wn1\n'.repeat(4), 4],
    ['1:ppn=2+1:ppn=4 on one node', 'wn1\nwn1\n'.repeat(3), 6],
  ])('give a guest the processors of %s, which the node file has', async (_what, nodeFile, vcpus) => {
    await node.start(JOB, { peers: { nodeFile } });
    expect(readRecord(jobPaths(node.config.state, JOB))?.request?.vcpus).toBe(vcpus);
    expect(await node.hypervisor.describe('vmbatch-7.server')).toContain(`>${vcpus}</vcpu>`);
    await node.end(JOB);
  });

  it('undo the same job twice without complaint', async () => {
    await node.start(JOB);
    expect(await node.end(JOB)).toBe(true);
    expect(await node.end(JOB)).toBe(true);
    expect(history()).toHaveLength(1);
  });

  it('keep apart what belongs to another job', async () => {
    await node.start(JOB);
    await node.start('8.server');
    await node.end(JOB);
    expect([...node.domains]).toEqual(['vmbatch-8.server']);
    expect(leftOn(node, '8.server')).toHaveLength(5);
  });

  const refused = [
    [
      'an image that the node does not have',
      '#VMBATCH image=other',
      'job',
      'image-unknown',
      /"other".*demo, gone, text/,
    ],
    [
      'a line that is no request',
      '#VMBATCH image',
      'job',
      'request-invalid',
      /job script of 7\.server:2: found "image"/,
    ],
    ['more memory than the image may have', '#VMBATCH memory=2GiB', 'job', 'limit-exceeded', /1 GiB/],
    [
      'an image whose file is absent',
      '#VMBATCH image=gone',
      'node',
      'image-absent',
      /gone\.qcow2 cannot be read \(ENOENT\)/,
    ],
    [
      'an image that is not qcow2',
      '#VMBATCH image=text',
      'node',
      'image-not-qcow2',
      /text\.qcow2 is not a qcow2 image/,
    ],
  ] as const;
  it.each(refused)('refuse %s before anything is made', async (_what, line, fault, code, message) => {
    node.script(`#!/bin/sh\n${line}\necho hello\n`);
    await expect(node.start(JOB)).rejects.toMatchObject({
      fault,
      code,
      message: expect.stringMatching(message),
    });
    expect(leftOn(node, JOB)).toEqual([]);
    expect(history()).toMatchObject([{ fault, code }]);
  });

  it('refuse to start with too little room on the disk', async () => {
    node.remove();
    node = await fakeNode('disk: { free_floor: 1000000 GiB, wait: 0 s }');
    await expect(node.start(JOB)).rejects.toMatchObject({ fault: 'node', code: 'disk-full' });
    expect(leftOn(node, JOB)).toEqual([]);
  });

  const failing = [
    ['libvirt cannot be reached', 'unreachable', 'hypervisor-unreachable'],
    ['libvirt refuses the domain half-way', 'refused', 'hypervisor-refused'],
    ['the guest is never ready', 'silent', 'guest-not-ready'],
    ['the guest reports that it failed', 'fails', 'guest-failed'],
    ['the guest has another host key', 'other-host-key', 'ready-file-refused'],
  ] as const;
  it.each(failing)('leave nothing when %s', async (_what, behaviour, code) => {
    node.guestBehaviour = behaviour;
    await expect(node.start(JOB)).rejects.toMatchObject({ fault: 'node', code });
    expect(leftOn(node, JOB)).toEqual([]);
  });

  it('say what the console of a guest that was never ready ended with', async () => {
    node.guestBehaviour = 'silent';
    node.onCreate = () =>
      writeFileSync(jobPaths(node.config.state, JOB).console, 'Kernel panic\u001b[0m - not syncing\n');
    await expect(node.start(JOB)).rejects.toThrow(/its console ended: Kernel panic \[0m - not syncing/);
  });

  it('write into the log what the guest could not do and its job may miss', async () => {
    node.guestBehaviour = 'notes';
    await node.start(JOB);
    expect(node.logged).toContainEqual(
      'warn: the guest is ready, but says: repository alice.cern.ch is not mounted:  no proxy',
    );
    await node.end(JOB);
    expect(history()).toMatchObject([{ guest: { notes: expect.stringContaining('alice.cern.ch') } }]);
  });

  it('keep their history in two files that do not grow for ever', async () => {
    const path = join(node.config.state, 'history.jsonl');
    await node.start(JOB);
    await node.end(JOB);
    truncateSync(path, 32 * 1024 ** 2);
    await node.start(JOB);
    await node.end(JOB);
    expect([existsSync(path), statSync(`${path}.1`).size > 32 * 1024 ** 2]).toEqual([false, true]);
    await node.start(JOB);
    await node.end(JOB);
    expect(history()).toHaveLength(1);
  });

  it('do not wait for a guest whose service said on the console that it failed', async () => {
    node.remove();
    node = await fakeNode('timeouts: { ready: 60 s }');
    node.guestBehaviour = 'silent';
    node.onCreate = () =>
      writeFileSync(
        jobPaths(node.config.state, JOB).console,
        'vmbatch-guest: [3.61] mounting 10.0.2.2:/share failed\n',
      );
    await expect(node.start(JOB)).rejects.toMatchObject({
      code: 'guest-died',
      message: expect.stringContaining('mounting 10.0.2.2:/share failed'),
    });
    expect(leftOn(node, JOB)).toEqual([]);
  });

  it.each([
    [
      'I/O error',
      ['vda: no space'],
      'disk-full',
      /could not write to its disk \(I\/O error; vda: no space\); .*\d+ MiB free/,
    ],
    ['I/O error', [], 'disk-failed', /could not write to its disk \(I\/O error\)/],
    ['user', [], 'guest-paused', /paused: user/],
  ])(
    'do not wait for a guest that the hypervisor has stopped: %s %j',
    async (reason, diskErrors, code, message) => {
      node.remove();
      node = await fakeNode('timeouts: { ready: 60 s }');
      node.guestBehaviour = 'silent';
      node.domainState = { state: 'paused', reason, diskErrors };
      const started = performance.now();
      await expect(node.start(JOB)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
      expect(performance.now() - started).toBeLessThan(30_000);
      expect(leftOn(node, JOB)).toEqual([]);
    },
    60_000,
  );

  it('let the epilogue win over a start that is under way', async () => {
    node.guestBehaviour = 'silent';
    // The epilogue's mark, made while libvirt was busy.
    node.onCreate = () => writeFileSync(jobPaths(node.config.state, JOB).ended, '');
    await expect(node.start(JOB)).rejects.toMatchObject({ fault: 'job', code: 'job-deleted' });
    expect(leftOn(node, JOB)).toEqual([]);
  });

  it('stop waiting at once when told that the job is over', async () => {
    node.remove();
    node = await fakeNode('timeouts: { ready: 60 s }');
    node.guestBehaviour = 'silent';
    const over = new AbortController();
    const reason = new VmbatchError({ fault: 'job', code: 'job-deleted', message: 'deleted' });
    node.onCreate = () => setTimeout(() => over.abort(reason), 100);
    await expect(node.start(JOB, { signal: over.signal })).rejects.toMatchObject({ code: 'job-deleted' });
    expect(leftOn(node, JOB)).toEqual([]);
  });

  it('undo what a killed prologue left before they start the job again', async () => {
    await node.start(JOB);
    const [domain] = [...node.domains];
    const before = readRecord(jobPaths(node.config.state, JOB));
    await node.start(JOB);
    expect([...node.domains]).toEqual([domain]);
    expect(readRecord(jobPaths(node.config.state, JOB))?.nonce).not.toBe(before?.nonce);
    expect(leftOn(node, JOB)).toHaveLength(5);
  });

  it('undo with what the record says when the node file is broken or another by now', async () => {
    await node.start(JOB);
    const record = readRecord(jobPaths(node.config.state, JOB));
    expect(record).toMatchObject({ uri: 'qemu:///system', undoMs: 60_000 });
    expect(await node.end(JOB)).toBe(true);
    expect(leftOn(node, JOB)).toEqual([]);
  });

  it('do not take the folder of a job that has nothing but a mark for a deleted job', async () => {
    await node.start(JOB);
    await node.end(JOB);
    const paths = jobPaths(node.config.state, JOB);
    mkdirSync(paths.directory);
    writeFileSync(paths.ended, '');
    await node.start(JOB);
    expect(await node.end(JOB)).toBe(true);
    expect(leftOn(node, JOB)).toEqual([]);
  });

  it('remove what a killed prologue left half-written beside the session', async () => {
    await node.start(JOB);
    writeFileSync(join(node.config.state, 'sessions', JOB, 'session.json.4711.tmp'), 'a key');
    expect(await node.end(JOB)).toBe(true);
    expect(leftOn(node, JOB)).toEqual([]);
  });

  it.each(STEP_NAMES)('undo a start that was killed in the middle of the step %s', async (step) => {
    await node.start(JOB);
    const paths = jobPaths(node.config.state, JOB);
    const record = readRecord(paths);
    if (record === undefined) throw new Error('no record');
    // As the record stood when the step was begun: done or not, nobody knows.
    const known = STEP_NAMES.slice(0, STEP_NAMES.indexOf(step));
    record.steps = { ...Object.fromEntries(known.map((name) => [name, 'held'])), [step]: 'acquiring' };
    record.prologue = { pid: 999_999_999, startTicks: 1 };
    writeRecord(paths, record);
    const later = STEP_NAMES.slice(STEP_NAMES.indexOf(step) + 1);
    if (later.includes('domain')) node.domains.clear();
    const session = join(node.config.state, 'sessions', JOB);
    if (later.includes('session')) {
      writeRecord(paths, { ...record, steps: { ...record.steps, session: 'acquiring' } });
    }
    expect(await node.end(JOB)).toBe(true);
    expect(existsSync(session)).toBe(false);
    expect(node.domains.size).toBe(0);
    expect(existsSync(paths.directory)).toBe(false);
  });

  it('refuse a ready directory that guests of several users could not share', async () => {
    mkdirSync(node.config.readyDirectory, { recursive: true });
    chmodSync(node.config.readyDirectory, 0o755);
    await expect(node.start(JOB)).rejects.toMatchObject({ code: 'ready-directory', fault: 'node' });
    expect(leftOn(node, JOB)).toEqual([]);
  });
});

describe('the table of steps', () => {
  it('has an entry for every name that a record may hold, in the same order', () => {
    expect(STEPS.map(({ name }) => name)).toEqual([...STEP_NAMES]);
  });
});

describe('FAULT_OUTCOMES', () => {
  it('gives the prologue no other exit code than the two that TORQUE does not retry for ever or must', () => {
    expect(Object.entries(FAULT_OUTCOMES).map(([fault, { prologueExit }]) => [fault, prologueExit])).toEqual([
      ['job', 1],
      ['node', 2],
      ['site', 2],
      ['bug', 2],
    ]);
  });
});
