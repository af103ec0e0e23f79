// A guest whose root is hostile: what it writes to the ready file, and what its SSH server does. Nothing of
// it may hang the node, fill its memory, or make it believe what is not so.
import { execFileSync } from 'node:child_process';
import { chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import ssh2 from 'ssh2';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { generateKeyPair } from '../../../../src/context/keys.ts';
import { waitForReadyFile } from '../../../../src/guest/ready/ready.ts';
import { JobSession } from '../../../../src/guest/session/job-session.ts';

const GUEST_KEY = generateKeyPair();
const USER_KEY = generateKeyPair();
let directory: string;
const servers: { close(): void }[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-hostile-'));
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  rmSync(directory, { recursive: true, force: true });
});

describe.runIf(process.getuid?.() === 0)('a ready file', () => {
  const USER = 65534;
  const GOOD = {
    ...{ version: 1, jobId: '7.server', nonce: 'the nonce', address: '192.0.2.7', port: 22 },
    ...{
      hostKey: GUEST_KEY.publicKey,
      hostname: 'guest',
      kernel: '6.1',
      system: 'x',
      vcpus: 1,
      memoryKiB: 1,
    },
    bootId: '8aede550-7ca6-4a39-9015-419db29584d0',
  };
  const look = () => {
    const path = join(directory, '7.server.nonce');
    return waitForReadyFile(
      { path, jobId: '7.server', nonce: 'the nonce', hostKey: GUEST_KEY.publicKey, ownerUid: USER },
      { exists: async () => true },
      { deadlineMs: 300, signal: new AbortController().signal, givenUp: () => undefined },
    );
  };
  const write = (content: string) => {
    const path = join(directory, '7.server.nonce');
    writeFileSync(path, content);
    chownSync(path, USER, USER);
  };

  it('that is true is believed', async () => {
    write(JSON.stringify(GOOD));
    expect(await look()).toMatchObject({ address: '192.0.2.7', hostname: 'guest' });
  });

  it.each([
    ['is about another job', { jobId: '8.server' }, /is about job 8\.server, must be about 7\.server/],
    ['is from another start of the job', { nonce: 'old' }, /another start/],
    ['names another host key', { hostKey: generateKeyPair().publicKey }, /another host key/],
    ['has a text for a port', { port: '22; reboot' }, /port/],
    ['has a command for an address', { address: '$(reboot)' }, /address/],
    ['has a host name without end', { hostname: 'x'.repeat(300) }, /hostname/],
  ])('that %s is refused', async (_what, changes, message) => {
    write(JSON.stringify({ ...GOOD, ...changes }));
    await expect(look()).rejects.toMatchObject({ fault: 'node', message: expect.stringMatching(message) });
  });

  it.each([
    ['huge', () => write(`${JSON.stringify(GOOD)}${' '.repeat(10_000_000)}`), /at most 4096 are read/],
    ['no JSON, with control characters', () => write('\u001b[2J\u0007{'), /is not JSON: \s*\[2J \{$/],
    ['deeper than a stack', () => write('['.repeat(4000)), /is not JSON/],
    [
      'somebody else’s',
      () => writeFileSync(join(directory, '7.server.nonce'), JSON.stringify(GOOD)),
      /belongs to uid 0/,
    ],
    [
      'a link to a file of root’s',
      () => {
        writeFileSync(join(directory, 'secret'), JSON.stringify(GOOD));
        symlinkSync('secret', join(directory, '7.server.nonce'));
      },
      /is a symbolic link/,
    ],
    [
      'a FIFO that nobody writes to',
      () => execFileSync('mkfifo', ['-m', '666', join(directory, '7.server.nonce')]),
      /not a regular file/,
    ],
    ['a directory', () => mkdirSync(join(directory, '7.server.nonce')), /not a regular file/],
    [
      'a device',
      () => execFileSync('mknod', [join(directory, '7.server.nonce'), 'c', '1', '5']),
      /not a regular file/,
    ],
  ])('that is %s is refused, at once', async (_what, make, message) => {
    make();
    const begun = performance.now();
    await expect(look()).rejects.toMatchObject({ fault: 'node', message: expect.stringMatching(message) });
    expect(performance.now() - begun).toBeLessThan(2_000);
  });
});

/** Listens on loopback, and does with each connection what it is told. */
async function listen(onConnection: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push({
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  });
  return (server.address() as AddressInfo).port;
}

/** A real SSH server that answers every command as it is told. */
async function listenSsh(onExec: (channel: ssh2.ServerChannel, command: string) => void): Promise<number> {
  const server = new ssh2.Server({ hostKeys: [GUEST_KEY.privateKey] }, (client) => {
    client.on('error', () => undefined);
    client.on('authentication', (context) => context.accept());
    client.on('session', (accept) =>
      accept().on('exec', (acceptExec, _reject, { command }) => onExec(acceptExec(), command)),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push({ close: () => server.close() });
  return (server.address() as AddressInfo).port;
}

function session(port: number, sink: () => Writable = () => new PassThrough().resume()): JobSession {
  return new JobSession({
    connection: {
      ...{ host: '127.0.0.1', port, user: 'alice', privateKey: USER_KEY.privateKey },
      ...{ hostKey: GUEST_KEY.publicKey, timeoutMs: 500, heartbeatMs: 800 },
    },
    launch: {
      ...{ directory: '/var/tmp/x', scriptName: '7.SC', script: Buffer.from('true'), scriptArguments: '' },
      ...{ environment: {}, nodeFile: undefined, shell: '/bin/sh', login: false, umask: 0o77 },
      limits: [],
    },
    stdout: sink(),
    stderr: sink(),
    connectMs: 1_500,
    reconnectMs: 1_000,
    guestLives: () => true,
  });
}

const MIB = 1024 ** 2;

describe('an SSH server', () => {
  const GARBAGE = Buffer.alloc(64 * 1024, 0xa5);
  const flood = (socket: Socket, data: Buffer) => {
    const more = () => {
      while (!socket.destroyed && socket.write(data));
    };
    socket.on('drain', more);
    more();
  };

  it.each([
    ['that accepts and says nothing', () => undefined],
    ['that floods with bytes that are no SSH', (socket: Socket) => flood(socket, GARBAGE)],
    ['whose greeting never ends', (socket: Socket) => flood(socket, Buffer.from('hello\r\n'.repeat(5_000)))],
    [
      'that greets, then sends broken frames',
      (socket: Socket) => {
        socket.write('SSH-2.0-x\r\n');
        flood(socket, GARBAGE);
      },
    ],
    [
      'that announces a packet of four gigabytes',
      (socket: Socket) =>
        void socket.write(Buffer.concat([Buffer.from('SSH-2.0-x\r\n'), Buffer.alloc(8, 0xff)])),
    ],
    ['that hangs up at once', (socket: Socket) => void socket.destroy()],
  ])('%s is given up in time, with its memory bounded', async (_what, behave) => {
    const port = await listen(behave);
    const before = process.memoryUsage().rss;
    const begun = performance.now();
    await expect(session(port).run()).rejects.toMatchObject({ fault: 'node', code: 'guest-unreachable' });
    expect(performance.now() - begun).toBeLessThan(8_000);
    expect(process.memoryUsage().rss - before).toBeLessThan(150 * MIB);
  });

  it('with another host key than the one that was put into the guest is refused, and gets no try more', async () => {
    const other = generateKeyPair();
    let connections = 0;
    const server = new ssh2.Server({ hostKeys: [other.privateKey] }, (client) => {
      connections++;
      client.on('error', () => undefined);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    servers.push({ close: () => server.close() });
    const { port } = server.address() as AddressInfo;
    await expect(session(port).run()).rejects.toMatchObject({ fault: 'node', code: 'host-key-mismatch' });
    expect(connections).toBe(1);
  });

  it('that sends output without end is not heard faster than its output is taken', async () => {
    let sent = 0;
    const port = await listenSsh((channel, command) => {
      if (command === 'exec /bin/sh -s') channel.write('started\n');
      if (!command.includes('tail')) return;
      const chunk = Buffer.alloc(256 * 1024, 'x');
      const more = () => {
        while (!channel.destroyed) {
          sent += chunk.length;
          if (!channel.write(chunk)) return;
        }
      };
      channel.on('drain', more);
      channel.on('error', () => undefined);
      more();
    });
    // A disk that takes nothing any more.
    const stuck = () => new Writable({ highWaterMark: 64 * 1024, write: () => undefined });
    const before = process.memoryUsage().rss;
    const job = session(port, stuck);
    const end = job.run().catch((error: unknown) => error);
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    // The window of the protocol (16 MiB a stream), on both sides of a test that is guest and node in one.
    expect(sent).toBeLessThan(100 * MIB);
    expect(process.memoryUsage().rss - before).toBeLessThan(250 * MIB);
    job.abandon();
    expect(await end).toBeInstanceOf(Error);
  });

  it.each([
    ['no number', 'x y z\n'],
    ['a number without end', `${'9'.repeat(100_000)}\n`],
    ['lines without end', 'a\n'.repeat(100_000)],
    ['a code that no process has', '4711 0 0\n'],
  ])('that tells as the end of the job %s is taken for what it is', async (_what, said) => {
    const port = await listenSsh((channel, command) => {
      if (command === 'exec /bin/sh -s') {
        channel.write('started\n');
        return;
      }
      if (command.includes('tail')) return;
      channel.write(said);
      channel.exit(0);
      channel.end();
    });
    await expect(session(port).run()).rejects.toMatchObject({ fault: 'job', code: 'job-untraceable' });
  });
});
