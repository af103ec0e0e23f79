import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { generateKeyPair } from '../../../../src/context/keys.ts';
import { JobSession, type JobSessionOptions } from '../../../../src/guest/session/job-session.ts';
import { startSshServer, type TestServer } from '../../../support/ssh-server.ts';

class Sink extends Writable {
  readonly parts: Buffer[] = [];
  override _write(part: Buffer, _encoding: string, done: () => void): void {
    this.parts.push(part);
    done();
  }
  get bytes(): Buffer {
    return Buffer.concat(this.parts);
  }
  get text(): string {
    return this.bytes.toString('utf8');
  }
}

let server: TestServer;
let work: string;
let out: Sink;
let err: Sink;

beforeEach(async () => {
  server = await startSshServer();
  work = mkdtempSync(join(tmpdir(), 'vmbatch-session-'));
  out = new Sink();
  err = new Sink();
});
afterEach(async () => {
  await server.close();
  rmSync(work, { recursive: true, force: true });
});

function session(script: string | Buffer, changes: Partial<JobSessionOptions> = {}, launch = {}): JobSession {
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
      script: Buffer.from(script),
      scriptArguments: '',
      environment: { HOME: work, PATH: '/usr/bin:/bin', PBS_JOBID: '7.server' },
      nodeFile: undefined,
      shell: '/bin/bash',
      login: false,
      umask: 0o077,
      limits: [],
      ...launch,
    },
    stdout: out,
    stderr: err,
    connectMs: 2_000,
    reconnectMs: 5_000,
    guestLives: () => true,
    ...changes,
  });
}

describe('JobSession', () => {
  it('brings back both outputs and the exit code, and counts no reconnects', async () => {
    const end = await session('#!/bin/sh\necho to stdout; echo to stderr >&2; exit 7\n').run();
    expect(end).toMatchObject({ exitCode: 7, reconnects: 0 });
    expect([out.text, err.text]).toEqual(['to stdout\n', 'to stderr\n']);
  });

  it('gives the job its environment byte for byte, its arguments and its node file', async () => {
    const value = `it's "$HOME" \`id\` \\ ünï\ttab\nsecond line`;
    const end = await session(
      '#!/bin/bash\nprintf %s "$TRICKY"; echo; echo "$0" "$@"; cat "$PBS_NODEFILE"; pwd; umask; greet; env | grep no-\n',
      {},
      {
        environment: {
          HOME: work,
          PATH: '/usr/bin:/bin',
          TRICKY: Buffer.from(value).toString('latin1'),
          UID: '5',
          'BASH_FUNC_greet%%': '() { echo greeted; }',
          'no-name': 'kept',
          '-i': 'no option',
          '': 'nothing',
        },
        umask: 0o022,
        scriptArguments: ` one ${Buffer.from('zwö').toString('latin1')}`,
        nodeFile: Buffer.from('node-1\n'),
      },
    ).run();
    expect(end.exitCode).toBe(0);
    expect(out.text).toBe(
      `${value}\n${join(work, 'job/7.server.SC')} one zwö\nnode-1\n${work}\n0022\ngreeted\nno-name=kept\n`,
    );
  });

  it('passes on bytes that are no text, and a job script that holds NUL', async () => {
    const script = Buffer.concat([
      Buffer.from("#!/bin/sh\nprintf 'a\\000b\\377'; exit 0\n"),
      Buffer.from([0, 255, 0]),
    ]);
    const end = await session(script).run();
    expect(end.exitCode).toBe(0);
    expect([...out.bytes]).toEqual([97, 0, 98, 255]);
  });

  it('passes on ten megabytes unchanged', async () => {
    const end = await session(
      '#!/bin/sh\ni=0; while [ $i -lt 10 ]; do head -c 1048576 /dev/zero | tr "\\000" "$i"; i=$((i+1)); done\n',
    ).run();
    expect(end.exitCode).toBe(0);
    const expected = Buffer.concat([...'0123456789'].map((digit) => Buffer.alloc(1 << 20, digit)));
    expect(out.bytes.equals(expected)).toBe(true);
  });

  it.each(['end', 'reset'] as const)(
    'takes up a connection lost by %s without losing or doubling output',
    async (how) => {
      const job = session(
        '#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8; do echo "line $i"; sleep 0.2; done; exit 3\n',
      ).run();
      await sleep(500);
      server.cut(how);
      await sleep(400);
      server.cut(how);
      const end = await job;
      expect(end.exitCode).toBe(3);
      expect(end.reconnects).toBeGreaterThanOrEqual(1);
      expect(out.text).toBe([1, 2, 3, 4, 5, 6, 7, 8].map((i) => `line ${i}\n`).join(''));
    },
  );

  it('starts the job once, however often the connection breaks', async () => {
    const job = session(`#!/bin/sh\necho x >>${work}/starts; sleep 0.6\n`).run();
    for (let i = 0; i < 4; i++) {
      await sleep(150);
      server.cut();
    }
    await job;
    expect(readFileSync(join(work, 'starts'), 'utf8')).toBe('x\n');
  });

  it.each([
    ['TERM', 143],
    ['INT', 130],
  ] as const)(
    'hands SIG%s on to the whole process group and gives it time to end',
    async (name, exitCode) => {
      const running = session(
        `#!/bin/bash
trap 'sleep 0.5; echo put in order; kill -${name} $BASHPID; exit' ${name}
echo up
while :; do sleep 0.1; done
`.replace('kill', `trap - ${name}; kill`),
      );
      const end = running.run();
      while (!out.text.includes('up')) await sleep(20);
      await sleep(100);
      await running.signal(name);
      expect((await end).exitCode).toBe(exitCode);
      expect(out.text).toBe('up\nput in order\n');
    },
  );

  it('keeps a signal that comes before the job for when there is one', async () => {
    const running = session('#!/bin/sh\nsleep 30\n');
    await running.signal('TERM');
    expect((await running.run()).exitCode).toBe(143);
  });

  it.each([0, 200])(
    'ends at once what a job that exits with %i left running in its process group',
    async (code) => {
      await session(`#!/bin/sh\n(sleep 1; touch ${work}/late) &\nexit ${code}\n`).run();
      await sleep(1_300);
      expect(existsSync(join(work, 'late'))).toBe(false);
    },
  );

  it('refuses another host key at once, and says so', async () => {
    const connection = {
      host: '127.0.0.1',
      port: server.port,
      user: 'alice',
      privateKey: server.userKey.privateKey,
      hostKey: generateKeyPair().publicKey,
      timeoutMs: 5_000,
      heartbeatMs: 60_000,
    };
    await expect(session('true\n', { connection, connectMs: 60_000 }).run()).rejects.toMatchObject({
      code: 'host-key-mismatch',
      fault: 'node',
    });
    expect(server.sessions()).toBe(0);
  });

  it('gives up at once when the guest is dead', async () => {
    const dead = { ...(await startSshServer()) };
    await dead.close();
    const connection = {
      host: '127.0.0.1',
      port: dead.port,
      user: 'alice',
      privateKey: dead.userKey.privateKey,
      hostKey: dead.hostKey,
      timeoutMs: 5_000,
      heartbeatMs: 60_000,
    };
    const lost = session('true\n', { connection, connectMs: 60_000, guestLives: () => false });
    await expect(lost.run()).rejects.toMatchObject({ code: 'guest-lost', fault: 'node' });
  });

  it('goes on trying while something accepts connections and resets them', async () => {
    let accepted = 0;
    const resetting = createServer((socket) => {
      accepted++;
      socket.resetAndDestroy();
    });
    await new Promise<void>((resolve) => resetting.listen(0, '127.0.0.1', resolve));
    const { port } = resetting.address() as AddressInfo;
    const connection = {
      host: '127.0.0.1',
      port,
      user: 'alice',
      privateKey: server.userKey.privateKey,
      hostKey: server.hostKey,
      timeoutMs: 5_000,
      heartbeatMs: 60_000,
    };
    const unlucky = session('true\n', { connection, connectMs: 1_000 }).run();
    await expect(unlucky).rejects.toMatchObject({ code: 'guest-unreachable', fault: 'node' });
    expect(accepted).toBeGreaterThan(2);
    resetting.close();
  });

  it.each(['/usr/sbin/nologin', '/bin/false'])(
    "runs the job of an account whose shell is %s in the guest's bash, with its other variables untouched",
    async (shell) => {
      const environment = {
        HOME: work,
        PATH: '/usr/bin:/bin',
        SHELL: shell,
        shell: 'mine',
        directory: 'too',
      };
      const end = await session(
        '#!/bin/sh\nps -o args= -p $PPID; echo "$SHELL $shell $directory"\n',
        {},
        { shell, login: true, environment },
      ).run();
      expect([end.exitCode, out.text, err.text]).toEqual([0, '/bin/bash -l\n/bin/bash mine too\n', '']);
    },
  );

  it("says what the account's shell in the guest printed, and its exit code, if it did not take the job", async () => {
    const shell = join(work, 'no-login');
    const program = '#!/bin/sh\necho This account is not available.\nexit 1\n';
    writeFileSync(shell, program, { mode: 0o755 });
    const refusing = await startSshServer(shell);
    const { port, hostKey, userKey } = refusing;
    const { privateKey } = userKey;
    const connection = {
      host: '127.0.0.1',
      user: 'alice',
      timeoutMs: 5_000,
      heartbeatMs: 60_000,
      port,
      hostKey,
      privateKey,
    };
    await expect(session('true\n', { connection }).run()).rejects.toMatchObject({
      code: 'job-not-started',
      message: expect.stringMatching(/exit code 1 and said: This account is not available\.$/),
    });
    await refusing.close();
  });

  it('lets a job that signals its own process group put things in order before it ends', async () => {
    const end = await session(
      `#!/bin/bash
trap 'trap "" TERM; kill 0; sleep 1; echo in order' EXIT
exit 3
`,
    ).run();
    // The mom's shell itself died of it.
    expect([end.exitCode, out.text]).toEqual([143, 'in order\n']);
  });

  it('says that the guest has no such shell', async () => {
    const end = await session('true\n', {}, { shell: '/no/such/shell' }).run();
    expect(end.exitCode).toBe(254);
    expect(err.text).toBe('vmbatch: the guest has no shell /no/such/shell\n');
  });

  it('tells a job that killed its own watcher whose fault that is', async () => {
    const suicide = session('#!/bin/sh\nkill -KILL $(cut -d" " -f4 /proc/$PPID/stat); sleep 5\n');
    await expect(suicide.run()).rejects.toMatchObject({ code: 'job-untraceable', fault: 'job' });
  });
});
