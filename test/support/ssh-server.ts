// An SSH server on loopback that runs commands on this machine as whoever runs the tests: a guest without a
// virtual machine. It can lose its connections, and lie about who it is.
import { type ChildProcess, spawn } from 'node:child_process';
import type { EventEmitter } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import ssh2 from 'ssh2';
import { generateKeyPair, type KeyPair } from '../../src/context/keys.ts';
import type { KeyType } from '../../src/node-file/config.ts';

export interface TestServer {
  port: number;
  hostKey: string;
  /** The user's key, accepted by the server. */
  userKey: KeyPair;
  /** Ends every connection there is: politely, or as when the machine behind it is gone. */
  cut(how?: 'end' | 'reset'): void;
  /** Number of sessions that were accepted. */
  sessions(): number;
  close(): Promise<void>;
}

/** @param shell the user's: what it does not run, does not run. Default: /bin/sh.
 * @param keys kind of its keys */
export async function startSshServer(shell = '/bin/sh', keys: KeyType = 'ed25519'): Promise<TestServer> {
  const host = generateKeyPair(keys);
  const userKey = generateKeyPair(keys);
  const clients = new Set<ssh2.Connection>();
  const sockets = new Set<Socket>();
  const children: ChildProcess[] = [];
  let accepted = 0;
  const server = new ssh2.Server({ hostKeys: [host.privateKey] }, (client) => {
    clients.add(client);
    client.on('error', () => undefined);
    client.on('close', () => clients.delete(client));
    client.on('authentication', (context) => {
      const known =
        context.method === 'publickey' &&
        context.key.data.toString('base64') === userKey.publicKey.split(' ')[1];
      if (known) context.accept();
      else context.reject(['publickey']);
    });
    client.on('session', (accept) => {
      accepted++;
      accept().on('exec', (acceptExec, _reject, info) => {
        const channel = acceptExec();
        // As an SSH server does it: a session of its own for each command.
        const child = spawn(shell, ['-c', info.command], { detached: true });
        children.push(child);
        channel.pipe(child.stdin);
        child.stdout.pipe(channel, { end: false });
        child.stderr.pipe(channel.stderr, { end: false });
        child.stdin.on('error', () => undefined);
        child.on('close', (code) => {
          channel.exit(code ?? 255);
          channel.end();
        });
        channel.on('close', () => {
          child.stdout.destroy();
          child.stderr.destroy();
        });
        channel.on('error', () => undefined);
      });
    });
  });
  // The server of the library does not hand out its sockets.
  const { _srv: listener } = server as unknown as { _srv: EventEmitter };
  listener.on('connection', (socket: Socket) => {
    socket.setNoDelay(true);
    sockets.add(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    hostKey: host.publicKey,
    userKey,
    cut: (how = 'end') => {
      for (const client of clients) client.end();
      if (how === 'reset') for (const socket of sockets) socket.resetAndDestroy();
    },
    sessions: () => accepted,
    close: () =>
      new Promise((resolve) => {
        for (const client of clients) client.end();
        // What follows output would go on for ever. Jobs have sessions of their own.
        for (const child of children) endGroup(child);
        server.close(() => resolve());
      }),
  };
}

function endGroup({ pid, exitCode }: ChildProcess): void {
  if (pid === undefined || exitCode !== null) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // it has ended
  }
}
