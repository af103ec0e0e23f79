// The job's folder on its way into a guest and back, over a real SSH connection to this machine.
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Connection } from '../../../../src/guest/session/connection.ts';
import { JobSession } from '../../../../src/guest/session/job-session.ts';
import { readOutcome, sessionPaths, writeSession } from '../../../../src/guest/session/session-file.ts';
import { type Staging, stagingOf } from '../../../../src/guest/session/staging.ts';
import { runJob } from '../../../../src/node/life/run.ts';
import { spawnRun } from '../../../../src/util/processes/spawn-run.ts';
import { startSshServer, type TestServer } from '../../../support/ssh-server.ts';

let server: TestServer;
let work: string;
let stage: string;

/** Node and guest are one machine here: between the two ways, the folder that the guest left stands in for
 * the guest's own, since the node takes its copy away before it puts the new one there. */
beforeEach(async () => {
  server = await startSshServer();
  work = mkdtempSync(join(tmpdir(), 'vmbatch-staging-'));
  stage = join(work, 'scratch', 'ID');
  mkdirSync(stage, { recursive: true });
});
afterEach(async () => {
  await server.close();
  rmSync(work, { recursive: true, force: true });
});

const nothing = () => new Writable({ write: (_part, _encoding, done) => done() });

function session(script: string, staging: Staging): JobSession {
  return new JobSession({
    connection: {
      host: '127.0.0.1',
      port: server.port,
      user: 'alice',
      privateKey: server.userKey.privateKey,
      hostKey: server.hostKey,
      timeoutMs: 5_000,
      heartbeatMs: 60_000,
    },
    launch: {
      directory: join(work, 'job'),
      scriptName: '7.server.SC',
      script: Buffer.from(`#!/bin/sh\n${script}\n`),
      scriptArguments: '',
      environment: { HOME: work, PATH: '/usr/bin:/bin' },
      nodeFile: undefined,
      shell: '/bin/sh',
      login: false,
      umask: 0o077,
      limits: [],
    },
    staging,
    stdout: nothing(),
    stderr: nothing(),
    connectMs: 5_000,
    reconnectMs: 5_000,
    guestLives: () => true,
  });
}

/** Loses the connection the first time that each way is gone. */
function losing(staging: Staging): Staging & { calls: string[] } {
  const calls: string[] = [];
  const way = (name: 'carryIn' | 'carryOut') => async (connection: Connection) => {
    calls.push(name);
    if (calls.filter((call) => call === name).length === 1) server.cut('reset');
    await staging[name](connection);
  };
  return { calls, carryIn: way('carryIn'), carryOut: way('carryOut') };
}

const OUTSIDE = ['.vmbatch-in.tar', '.vmbatch-out.tar', '.vmbatch-out'];
const leftOvers = () => OUTSIDE.filter((suffix) => existsSync(stage + suffix));

describe('runJob', () => {
  it('carries the folder that the batch script names, and leaves the exit code for the epilogue', async () => {
    const jobId = `${process.pid}.staging-test`;
    const state = join(work, 'state');
    mkdirSync(join(state, 'sessions'), { recursive: true });
    const paths = sessionPaths(state, jobId);
    const owner = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    writeSession(
      paths,
      {
        ...{ version: 1, jobId, host: '127.0.0.1', port: server.port, user: 'alice' },
        ...{ privateKey: server.userKey.privateKey, hostKey: server.hostKey, loginShell: '/bin/sh' },
        ...{ connectMs: 5_000, reconnectMs: 5_000, heartbeatMs: 60_000, environment: {}, afterJobSeconds: 0 },
      },
      owner,
    );
    writeFileSync(join(stage, 'input'), 'x\n');
    const script = join(work, '7.SC');
    writeFileSync(
      script,
      `#!/bin/sh\n#VMBATCH vcpus=1 stage=${stage}\ncd ${stage} && mv input output; exit 3\n`,
    );
    try {
      const result = await runJob({
        ...{ state, jobId, shell: '/bin/sh', line: `${script}\n`, umask: 0o077, limits: [] },
        environment: { HOME: work, PATH: '/usr/bin:/bin' },
        ...{ stdout: nothing(), stderr: nothing(), onSignal: () => undefined },
      });
      expect(result).toBe(3);
      expect(readdirSync(stage)).toEqual(['output']);
      expect(existsSync(`${stage}.diag`)).toBe(true);
      expect(readOutcome(paths, owner.uid)).toMatchObject({ exitCode: 3 });
    } finally {
      rmSync(`/var/tmp/vmbatch-${jobId}`, { recursive: true, force: true });
    }
  });
});

describe('staging', () => {
  it('carries the files in before the job and the results with their .diag back after it, whatever its exit code', async () => {
    mkdirSync(join(stage, 'dir'));
    writeFileSync(join(stage, 'in put'), 'input\n');
    writeFileSync(join(stage, 'dir/.hidden'), Buffer.from([0, 255]));
    const program = `cd '${stage}' && cat 'in put' > result && ln -s /etc/passwd link && rm 'in put' && echo exitcode=7 > '${stage}.diag'; exit 7`;
    const end = await session(program, stagingOf(stage, spawnRun)).run();
    expect(end.exitCode).toBe(7);
    expect(readdirSync(stage).sort()).toEqual(['dir', 'link', 'result']);
    expect(readFileSync(join(stage, 'result'), 'utf8')).toBe('input\n');
    expect([...readFileSync(join(stage, 'dir/.hidden'))]).toEqual([0, 255]);
    expect(lstatSync(join(stage, 'link')).isSymbolicLink()).toBe(true);
    expect(readFileSync(`${stage}.diag`, 'utf8')).toBe('exitcode=7\n');
    expect(leftOvers()).toEqual([]);
  });

  it('is done again after a lost connection, and the job runs once', async () => {
    writeFileSync(join(stage, 'data'), Buffer.alloc(3_000_000, 'x'));
    const staging = losing(stagingOf(stage, spawnRun));
    const end = await session(`cd '${stage}' && echo ran >> '${work}/runs' && cp data copy`, staging).run();
    expect(end.exitCode).toBe(0);
    expect(end.reconnects).toBeGreaterThanOrEqual(2);
    expect(staging.calls).toEqual(['carryIn', 'carryIn', 'carryOut', 'carryOut']);
    expect(readFileSync(join(work, 'runs'), 'utf8')).toBe('ran\n');
    expect(lstatSync(join(stage, 'copy')).size).toBe(3_000_000);
    expect(leftOvers()).toEqual([]);
  });

  it('says that TORQUE has not brought the files', async () => {
    rmSync(stage, { recursive: true });
    await expect(session('true', stagingOf(stage, spawnRun)).run()).rejects.toMatchObject({
      fault: 'site',
      code: 'not-staged',
    });
  });

  it('says what the guest could not do, in both directions', async () => {
    writeFileSync(join(stage, 'data'), Buffer.alloc(1_000_000, 'x'));
    const gone = session(`rm -rf '${stage}'`, stagingOf(stage, spawnRun)).run();
    await expect(gone).rejects.toMatchObject({ fault: 'node', code: 'guest-staging-failed' });
    mkdirSync(stage);
    const run: typeof spawnRun = async (...call) => {
      const result = await spawnRun(...call);
      writeFileSync(`${stage}.vmbatch-in.tar`, 'not an archive');
      return result;
    };
    await expect(session('true', stagingOf(stage, run)).run()).rejects.toMatchObject({
      code: 'guest-staging-failed',
      message: expect.stringMatching(/^the guest cannot take the job's files into .*\/scratch\/ID: tar: /),
    });
  });

  it.each([
    [
      'names that lead out of it',
      `echo x > escaped; mkdir ID; : > ID.diag; tar -cPf archive --transform 's,^escaped,../../escaped,' escaped ID ID.diag`,
      { fault: 'site', code: 'staging-failed' },
    ],
    [
      'a link in the place of the folder',
      'ln -s / ID; : > ID.diag; tar -cf archive ID ID.diag',
      { code: 'guest-staging-failed' },
    ],
    [
      'a link in the place of the .diag',
      'mkdir ID; ln -s / ID.diag; tar -cf archive ID ID.diag',
      { code: 'guest-staging-failed' },
    ],
    [
      'a file through a link',
      `mkdir ID; : > ID.diag; ln -s '../../..' ID/up; tar -cf archive ID ID.diag; rm ID/up; mkdir ID/up; echo x > ID/up/escaped; tar -rf archive ID/up/escaped`,
      undefined,
    ],
  ])('takes nothing from a guest that sends %s', async (_what, make, failure) => {
    // Whoever is root in the guest may put another tar in the place of its own.
    const guest = join(work, 'guest');
    const made = await spawnRun('sh', ['-c', `mkdir '${guest}' && cd '${guest}' && { ${make}; }`]);
    expect(made.stderr).toBe('');
    const honest = stagingOf(stage, spawnRun);
    const ended = session('true', {
      carryIn: (connection) => honest.carryIn(connection),
      carryOut: (connection) =>
        honest.carryOut({ ...connection, exec: () => connection.exec(`cat '${guest}/archive'`) }),
    }).run();
    if (failure !== undefined) await expect(ended).rejects.toMatchObject(failure);
    else await ended.catch(() => undefined);
    expect(existsSync(join(work, 'escaped'))).toBe(false);
    expect(existsSync(join(work, 'scratch/escaped'))).toBe(false);
    expect(leftOvers()).toEqual([]);
  });
});
