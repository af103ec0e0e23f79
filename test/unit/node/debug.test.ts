// Looking into jobs that failed: kept guests, kept consoles, what a guest's last words mean.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { generateKeyPair } from '../../../src/context/keys.ts';
import { sessionPaths } from '../../../src/guest/session/session-file.ts';
import { eachProcess, startTicksOf } from '../../../src/hypervisor/guest-process.ts';
import { followConsole } from '../../../src/node/console/follow.ts';
import { keepConsole, keptConsolePath } from '../../../src/node/console/saved.ts';
import { lastWords } from '../../../src/node/console/tail.ts';
import { findJob } from '../../../src/node/debug/job.ts';
import { prepareSsh, sshArguments } from '../../../src/node/debug/ssh.ts';
import { hasFailed, keptJobs, releaseKept } from '../../../src/node/life/kept.ts';
import { jobPaths } from '../../../src/node/record.ts';
import { NO_LOG } from '../../../src/util/log.ts';
import { type FakeNode, fakeNode, leftOn } from '../../support/fake-node.ts';

const JOB = '7.server';
let node: FakeNode;
/** A stand-in for the program: notes its arguments. */
let keeper: { node: string; vmbatch: string };

describe.runIf(process.getuid?.() === 0)('debug.keep_on_failure', () => {
  beforeEach(async () => {
    node = await fakeNode('debug: { keep_on_failure: 1 s, consoles: 2 }\ntimeouts: { ready: 1 s }');
    keeper = { node: '/bin/sh', vmbatch: join(node.directory, 'keeper') };
    writeFileSync(
      keeper.vmbatch,
      `echo "$@" >${node.directory}/kept-args\nls -l /proc/$$/fd >${node.directory}/kept-fds\n`,
    );
  });
  afterEach(() => node.remove());

  it('keeps the guest of a job that failed, says so, and has it released when its time is over', async () => {
    await node.start(JOB);
    expect(await node.end(JOB, { exitStatus: 3, keeper })).toBe(true);
    expect([...node.domains]).toEqual(['vmbatch-7.server']);
    expect(existsSync(sessionPaths(node.config.state, JOB).session)).toBe(true);
    expect(node.logged.at(-1)).toMatch(
      /^warn: the guest of this failed job is kept until .*: vmbatch ssh 7\.server/,
    );
    expect(keptJobs(node.config.state)).toMatchObject([{ jobId: JOB }]);
    for (let looks = 0; looks < 100 && !existsSync(join(node.directory, 'kept-fds')); looks++)
      await sleep(50);
    expect(readFileSync(join(node.directory, 'kept-args'), 'utf8')).toBe(
      `release --state ${node.config.state} ${JOB}\n`,
    );

    const released = await releaseKept(
      node.config.state,
      () => true,
      () => node.hypervisor,
      NO_LOG,
    );
    expect(released).toEqual({ released: [JOB], left: [] });
    expect(leftOn(node, JOB)).toEqual([]);
  });

  it('leaves nobody asleep when a guest is released before its time', async () => {
    node.config = { ...node.config, debug: { ...node.config.debug, keepOnFailureMs: 600_000 } };
    const asleep = () =>
      [...eachProcess()].filter(({ words }) => words.includes(jobPaths(node.config.state, JOB).directory));
    await node.start(JOB);
    await node.end(JOB, { exitStatus: 3, keeper });
    const [shell] = asleep();
    expect(shell?.words.slice(3, 5)).toEqual(['vmbatch-keeper', '600']);
    const children = `/proc/${shell?.pid}/task/${shell?.pid}/children`;
    for (let looks = 0; looks < 100 && readFileSync(children, 'utf8') === ''; looks++) await sleep(20);
    const child = Number(readFileSync(children, 'utf8'));
    await releaseKept(
      node.config.state,
      () => true,
      () => node.hypervisor,
      NO_LOG,
    );
    for (let looks = 0; looks < 100 && (asleep().length > 0 || startTicksOf(child) !== undefined); looks++)
      await sleep(20);
    expect(asleep()).toEqual([]);
    expect(startTicksOf(child)).toBeUndefined();
  });

  it('releases only the guests that are chosen', async () => {
    await node.start(JOB);
    await node.start('8.server');
    await node.end(JOB, { exitStatus: 1, keeper });
    await node.end('8.server', { exitStatus: 1, keeper });
    const first = await releaseKept(
      node.config.state,
      ({ jobId }) => jobId === JOB,
      () => node.hypervisor,
      NO_LOG,
    );
    expect(first.released).toEqual([JOB]);
    expect([...node.domains]).toEqual(['vmbatch-8.server']);
  });

  it.each([
    ['ended well', 0],
    ['was deleted by its user', 271],
    ['was killed after its user deleted it', 265],
  ])('keeps no guest of a job that %s', async (_what, exitStatus) => {
    await node.start(JOB);
    expect(await node.end(JOB, { exitStatus, keeper })).toBe(true);
    expect(leftOn(node, JOB)).toEqual([]);
    expect(existsSync(keptConsolePath(node.config.state, JOB))).toBe(false);
  });

  it('keeps no guest that never was ready', async () => {
    node.guestBehaviour = 'silent';
    await expect(node.start(JOB)).rejects.toMatchObject({ code: 'guest-not-ready' });
    expect(await node.end(JOB, { exitStatus: -14, keeper })).toBe(true);
    expect(leftOn(node, JOB)).toEqual([]);
  }, 30_000);

  it('tells the user of a job whose guest was lost that it rebooted, and keeps the console', async () => {
    await node.start(JOB);
    writeFileSync(jobPaths(node.config.state, JOB).console, 'hello\n[   9.1] reboot: Restarting system\n');
    writeFileSync(
      sessionPaths(node.config.state, JOB).outcome,
      JSON.stringify({ version: 1, fault: 'node', code: 'guest-lost', message: 'the guest ended' }),
    );
    const told: string[] = [];
    await node.end(JOB, { exitStatus: 251, tell: (text) => told.push(text) });
    expect(told).toEqual(['vmbatch: the guest rebooted under its job']);
    expect(leftOn(node, JOB)).toEqual([]);
    expect(readFileSync(keptConsolePath(node.config.state, JOB), 'utf8')).toMatch(/^hello\n/);
  });
});

describe('hasFailed', () => {
  it('is true for an exit code, a limit and a fault, not for a job that its user deleted', () => {
    expect([3, -11, 1].map((status) => hasFailed(status, undefined))).toEqual([true, true, true]);
    expect([0, 271, 265].map((status) => hasFailed(status, undefined))).toEqual([false, false, false]);
    expect(hasFailed(0, 'node')).toBe(true);
  });
});

describe('consoles', () => {
  let state: string;
  beforeEach(() => {
    state = mkdtempSync(join(tmpdir(), 'vmbatch-consoles-'));
  });
  afterEach(() => rmSync(state, { recursive: true, force: true }));

  it('are kept up to a number, the newest ones, and of each the end', () => {
    const console = join(state, 'console.log');
    for (const [index, id] of ['1.s', '2.s', '3.s'].entries()) {
      writeFileSync(console, `${'x'.repeat(2 * 1024 * 1024)}end of ${id}\n`);
      keepConsole(state, id, console, 2);
      const time = new Date(1_000_000 + index * 1000);
      if (existsSync(keptConsolePath(state, id))) utimesSync(keptConsolePath(state, id), time, time);
    }
    keepConsole(state, '4.s', console, 2);
    expect(readdirSync(join(state, 'consoles')).sort()).toEqual(['3.s.log', '4.s.log']);
    const text = readFileSync(keptConsolePath(state, '3.s'), 'latin1');
    expect(text.length).toBe(1024 * 1024);
    expect(text.endsWith('end of 3.s\n')).toBe(true);
  });

  it('are printed without anything that a terminal would obey', async () => {
    const path = join(state, 'console.log');
    writeFileSync(path, Buffer.from('a\u001b]0;title\u0007b\r\n\ttab \xff\n', 'latin1'));
    let text = '';
    await followConsole({
      path,
      write: (part) => {
        text += part;
      },
      goOn: () => false,
      pause: async () => undefined,
    });
    expect(text).toBe('a?]0;title?b\n\ttab ?\n');
  });

  it('are followed while there is something to come', async () => {
    const path = join(state, 'console.log');
    writeFileSync(path, 'one\n');
    let text = '';
    let rounds = 0;
    await followConsole({
      path,
      write: (part) => {
        text += part;
      },
      goOn: () => rounds++ < 1,
      pause: async () => writeFileSync(path, 'two\n', { flag: 'a' }),
    });
    expect(text).toBe('one\ntwo\n');
  });

  it.each([
    ['[  12.0] reboot: Restarting system\n', 'the guest rebooted'],
    ['[  12.0] reboot: Power down\n', 'the guest was shut down from inside'],
    ['Kernel panic - not syncing: Attempted to kill init!\n---[ end\n', "the guest's kernel panicked"],
    ['vmbatch-guest: [3.1] ready\n', undefined],
  ])('whose end is %j mean: %s', (text, meaning) => {
    const path = join(state, 'console.log');
    writeFileSync(path, text);
    expect(lastWords(path)).toBe(meaning);
  });

  it('are found by the number of the job as well, and an unknown job is answered with those that there are', () => {
    mkdirSync(join(state, 'jobs/12.server'), { recursive: true });
    mkdirSync(join(state, 'consoles'));
    writeFileSync(join(state, 'consoles/13.server.log'), '');
    expect([findJob(state, '12'), findJob(state, '13.server')]).toEqual(['12.server', '13.server']);
    expect(() => findJob(state, '14')).toThrow(/there is nothing of a job "14" on this node/);
    mkdirSync(join(state, 'jobs/12.other'));
    expect(() => findJob(state, '12')).toThrow(
      /several jobs of this node are called 12: 12\.other, 12\.server/,
    );
  });
});

describe('vmbatch ssh', () => {
  const session = {
    ...{
      version: 1 as const,
      jobId: JOB,
      host: '127.0.0.1',
      port: 22022,
      user: 'alice',
      loginShell: '/bin/sh',
    },
    ...{
      privateKey: 'KEY',
      hostKey: generateKeyPair().publicKey,
      connectMs: 1,
      reconnectMs: 1,
      heartbeatMs: 1,
    },
    ...{ environment: {}, afterJobSeconds: 0 },
  };

  it("pins the guest's host key and uses nothing of the admin's own configuration", () => {
    const args = sshArguments(session, '/run/x', ['-v', 'ls']);
    expect(args.join(' ')).toContain('-F /dev/null');
    expect(args.join(' ')).toContain('StrictHostKeyChecking=yes');
    // What the admin gives as a command is never taken for an option of ssh.
    expect(args.slice(args.indexOf('--'))).toEqual(['--', '127.0.0.1', '-v', 'ls']);
  });

  it('says when the job has no guest to log in to', () => {
    expect(() => prepareSsh('/nonexistent', JOB, '/nonexistent', [])).toThrow(
      /job 7\.server has no guest that can be logged in to/,
    );
  });
});
