// Guests that hang, reboot or lack something while their job runs.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { JobSession, type JobSessionOptions } from '../../../../src/guest/session/job-session.ts';
import { startSshServer, type TestServer } from '../../../support/ssh-server.ts';

let server: TestServer;
let line: Line;
let work: string;

beforeEach(async () => {
  server = await startSshServer();
  line = await openLine(server.port);
  work = mkdtempSync(join(tmpdir(), 'vmbatch-session-'));
});
afterEach(async () => {
  line.close();
  await server.close();
  rmSync(work, { recursive: true, force: true });
});

/** What lies between the node and the guest: it may go silent without closing anything. */
interface Line {
  port: number;
  silence(): void;
  close(): void;
}

async function openLine(target: number): Promise<Line> {
  const sockets = new Set<Socket>();
  let silent = false;
  const relay: Server = createServer((near) => {
    const far = connect(target, '127.0.0.1');
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
    }
    near.on('data', (data) => silent || far.write(data));
    far.on('data', (data) => silent || near.write(data));
    far.on('close', () => silent || near.destroy());
    near.on('close', () => far.destroy());
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  return {
    port: (relay.address() as AddressInfo).port,
    silence: () => {
      silent = true;
    },
    close: () => {
      for (const socket of sockets) socket.destroy();
      relay.close();
    },
  };
}

function session(script: string, changes: Partial<JobSessionOptions> = {}): JobSession {
  return new JobSession({
    connection: {
      host: '127.0.0.1',
      port: line.port,
      user: 'alice',
      privateKey: server.userKey.privateKey,
      hostKey: server.hostKey,
      timeoutMs: 500,
      heartbeatMs: 800,
    },
    launch: {
      directory: join(work, 'job'),
      scriptName: '7.server.SC',
      script: Buffer.from(script),
      scriptArguments: '',
      environment: { HOME: work, PATH: '/usr/bin:/bin' },
      nodeFile: undefined,
      shell: '/bin/sh',
      login: false,
      umask: 0o077,
      limits: [],
    },
    stdout: new PassThrough().resume(),
    stderr: new PassThrough().resume(),
    connectMs: 2_000,
    reconnectMs: 1_000,
    guestLives: () => true,
    ...changes,
  });
}

const bootId = () => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

describe('JobSession', () => {
  it('ends a job whose guest goes silent without a word, and says that it hangs', async () => {
    const begun = performance.now();
    const job = session('#!/bin/sh\nsleep 30\n').run();
    const refused = expect(job).rejects.toMatchObject({
      fault: 'node',
      code: 'guest-hangs',
      message: expect.stringMatching(
        /^the guest hangs: it runs, but has given no sign of life for about 2 s$/,
      ),
    });
    await sleep(400);
    line.silence();
    await refused;
    expect(performance.now() - begun).toBeLessThan(10_000);
  });

  it('goes on with a job whose connection was lost while the guest is the same', async () => {
    const job = session('#!/bin/sh\nsleep 1\nexit 5\n', { bootId: bootId() }).run();
    await sleep(400);
    server.cut('reset');
    expect(await job).toMatchObject({ exitCode: 5, reconnects: 1 });
  });

  it('ends a job whose guest came back from a reboot, and says so', async () => {
    const other = '8aede550-7ca6-4a39-9015-419db29584d0';
    const job = session('#!/bin/sh\nsleep 30\n', { bootId: other }).run();
    const refused = expect(job).rejects.toMatchObject({
      fault: 'node',
      code: 'guest-rebooted',
      message: expect.stringContaining('the guest rebooted under its job'),
    });
    await sleep(400);
    server.cut('reset');
    await refused;
  });

  it("remarks that nothing in the guest runs the site's hook after the job, and keeps the job's exit code", async () => {
    const end = await session('#!/bin/sh\nexit 4\n', { afterJobSeconds: 1 }).run();
    expect(end.exitCode).toBe(4);
    expect(end.remark).toMatch(/nothing that runs the site's hook after the job/);
  });
});
