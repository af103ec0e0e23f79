// A real SSH server with a user whom the guest service made, in namespaces on this machine: for what only a
// user's true shell and a true server do.
import { spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loginOf } from '../../src/context/guest-context.ts';
import { generateKeyPair } from '../../src/context/keys.ts';
import type { ConnectionOptions } from '../../src/guest/session/connection.ts';
import { resourcePath } from '../../src/util/program/resources.ts';

export interface UserGuest {
  connection: ConnectionOptions;
  /** The user's, on this machine and in the guest. */
  home: string;
  uid: number;
  close(): Promise<void>;
}

/** No account of this machine's. */
const USER = { name: 'vmbatch-pilot', uid: 46_317 };

/** @param shell the user's own
 * @param login false: as an older guest service makes it, without an account for the node */
export async function startUserGuest(
  server: 'dropbear' | 'openssh',
  shell: string,
  login = true,
): Promise<UserGuest> {
  const home = mkdtempSync(join(tmpdir(), 'vmbatch-home-'));
  chmodSync(home, 0o755);
  chownSync(home, USER.uid, USER.uid);
  const [hostKey, userKey] = [generateKeyPair(), generateKeyPair()];
  const port = await freePort();
  const service = resourcePath('share/guest/vmbatch-guest');
  const namespaces = [
    '--mount',
    '--pid',
    '--fork',
    '--mount-proc',
    '--kill-child=KILL',
    '--propagation',
    'private',
  ];
  const machine = spawn(
    'unshare',
    [
      ...namespaces,
      '--',
      '/bin/sh',
      join(import.meta.dirname, 'user-guest.sh'),
      service,
      server,
      String(port),
    ],
    {
      env: {
        PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
        VMBATCH_USER: USER.name,
        VMBATCH_UID: String(USER.uid),
        VMBATCH_GROUP: USER.name,
        VMBATCH_GID: String(USER.uid),
        VMBATCH_GROUPS: 'vmbatch-extra:46318',
        VMBATCH_HOME: home,
        VMBATCH_SHELL: shell,
        VMBATCH_LOGIN: login ? loginOf(USER.name) : '',
        VMBATCH_HOST_KEY: Buffer.from(hostKey.privateKey).toString('base64'),
        VMBATCH_AUTHORIZED_KEY: userKey.publicKey,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  const ended = new Promise<void>((resolve) => machine.once('close', () => resolve()));
  const close = async () => {
    machine.kill('SIGKILL');
    await ended;
    rmSync(home, { recursive: true, force: true });
  };
  let said = '';
  for (const stream of [machine.stdout, machine.stderr])
    stream.on('data', (data) => {
      said += String(data);
    });
  await new Promise<void>((resolve, reject) => {
    machine.stdout.on('data', () => said.includes('ready\n') && resolve());
    void ended.then(() => reject(new Error(`the guest of ${server} ended: ${said}`)));
  });
  return {
    connection: {
      host: '127.0.0.1',
      port,
      user: loginOf(USER.name),
      otherUser: USER.name,
      privateKey: userKey.privateKey,
      hostKey: hostKey.publicKey,
      timeoutMs: 10_000,
      heartbeatMs: 60_000,
    },
    home,
    uid: USER.uid,
    close,
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
