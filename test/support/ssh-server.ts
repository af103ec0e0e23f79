// An SSH server on loopback that runs commands on this machine as whoever runs the tests: a guest without a
// virtual machine. It can lose its connections, and lie about who it is.
import { spawn } from 'node:child_process';
import type { AddressInfo } from 'node:net';
import ssh2 from 'ssh2';
import { generateKeyPair, type KeyPair } from '../../src/context/keys.ts';

export interface TestServer {
  port: number;
  hostKey: string;
  /** The user's key, accepted by the server. */
  userKey: KeyPair;
  /** Cuts every connection there is, as a network does. */
  cut(): void;
  /** Number of sessions that were accepted. */
  sessions(): number;
  close(): Promise<void>;
}

export async function startSshServer(): Promise<TestServer> {
  const host = generateKeyPair();
  const userKey = generateKeyPair();
  const clients = new Set<ssh2.Connection>();
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
        const child = spawn('/bin/sh', ['-c', info.command], { detached: true });
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
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    hostKey: host.publicKey,
    userKey,
    cut: () => {
      // The socket, not the protocol: nobody says goodbye when a network goes.
      for (const client of clients) client.end();
    },
    sessions: () => accepted,
    close: () =>
      new Promise((resolve) => {
        for (const client of clients) client.end();
        server.close(() => resolve());
      }),
  };
}
