// What users have in the start-up files of their shells is between them and their shells: with real SSH
// servers, real shells.
import { chownSync, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { JobSession } from '../../../../src/guest/session/job-session.ts';
import type { Limit } from '../../../../src/guest/session/limits.ts';
import { startUserGuest, type UserGuest } from '../../../support/user-guest.ts';

/** Each shell with the files that it reads when an SSH server has it run a command or when it is a login
 * shell, and with one that a login shell reads. */
const SHELLS = [
  { shell: '/bin/bash', files: ['.bashrc', '.profile', '.bash_profile'], login: '.bash_profile' },
  { shell: '/bin/dash', files: ['.profile'], login: '.profile' },
  { shell: '/bin/tcsh', files: ['.tcshrc', '.cshrc', '.login'], login: '.login' },
  { shell: '/bin/zsh', files: ['.zshenv', '.zprofile', '.zlogin'], login: '.zprofile' },
  { shell: '/bin/ksh', files: ['.profile', '.kshrc'], login: '.profile' },
].filter(({ shell }) => existsSync(shell));
const SERVERS = ['dropbear', 'openssh'] as const;

const START_UP_FILES = [
  'echo hello; echo hello >&2',
  'printf hello',
  'exit 0',
  'exit 1',
  'exec /bin/tcsh',
  'exec sleep 1000',
  'set -e; false',
  'stty -ixon; read -r answer',
  'cd /; umask 0; PATH=/nonexistent',
  'alias exec=exit; alias cat=echo',
  'if ((( fi',
];

class Sink extends Writable {
  text = '';
  override _write(part: Buffer, _encoding: string, done: () => void): void {
    this.text += part.toString();
    done();
  }
}

/** Of the jobs in the guests, which are namespaces of this machine. */
const directories: string[] = [];
afterAll(() => {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

function session(guest: UserGuest, shell: string, script: string, login = false, limits: Limit[] = []) {
  const [stdout, stderr] = [new Sink(), new Sink()];
  const directory = `/var/tmp/vmbatch-test-${process.pid}-${Math.random().toString(36).slice(2)}`;
  directories.push(directory);
  const job = new JobSession({
    connection: guest.connection,
    launch: {
      directory,
      scriptName: '7.server.SC',
      script: Buffer.from(script),
      scriptArguments: '',
      environment: {
        HOME: guest.home,
        PATH: '/usr/bin:/bin',
        SHELL: shell,
        LOGNAME: 'vmbatch-pilot',
        'X-Y': '1',
      },
      nodeFile: undefined,
      shell,
      login,
      umask: 0o027,
      limits,
    },
    stdout,
    stderr,
    connectMs: 5_000,
    reconnectMs: 5_000,
    guestLives: () => true,
  });
  return { job, stdout, stderr };
}

function put(guest: UserGuest, files: readonly string[], text: string): void {
  for (const name of readdirSync(guest.home)) rmSync(join(guest.home, name), { recursive: true });
  for (const name of files) {
    writeFileSync(join(guest.home, name), `${text}\n`);
    chownSync(join(guest.home, name), guest.uid, guest.uid);
  }
}

const SCRIPT = '#!/bin/sh\numask; id -un; id -Gn; pwd; echo said >&2; exit 7\n';

/** As with qsub -S: what a login shell reads is the job's business, below. */
async function expectOwnOutput(guest: UserGuest): Promise<void> {
  const { job, stdout, stderr } = session(guest, '/bin/sh', SCRIPT);
  const end = await job.run();
  const said = `0027\nvmbatch-pilot\nvmbatch-pilot vmbatch-extra\n${guest.home}\n`;
  expect([end.exitCode, end.reconnects, stdout.text, stderr.text]).toEqual([7, 0, said, 'said\n']);
}

const isRoot = process.getuid?.() === 0;
const PAIRS = SERVERS.flatMap((server) => SHELLS.map((shell) => ({ server, ...shell })));

describe.runIf(isRoot).each(PAIRS)('over $server, a user of $shell', ({ server, shell, files, login }) => {
  let guest: UserGuest;
  beforeAll(async () => {
    guest = await startUserGuest(server, shell);
  });
  afterAll(() => guest?.close());

  it('has start-up files of which nothing of ours reads any', async () => {
    put(guest, files, `touch ${guest.home}/was-read`);
    await expectOwnOutput(guest);
    expect(readdirSync(guest.home).sort()).toEqual([...files].sort());
  });

  it('has a job with the surroundings of a login shell, as TORQUE starts it', async () => {
    const set = shell.includes('csh') ? 'setenv FROM_FILE yes' : 'export FROM_FILE=yes';
    put(guest, [login], set);
    const { job, stdout } = session(guest, shell, '#!/bin/sh\necho "$FROM_FILE $SHELL $HOME"; env\n', true);
    expect(await job.run()).toMatchObject({ exitCode: 0 });
    expect(stdout.text).toMatch(new RegExp(`^yes ${shell} ${guest.home}$`, 'm'));
    expect(stdout.text).not.toMatch(/^(SSH_\w+|MAIL|XDG_\w+)=/m);
  });
});

describe.runIf(isRoot).each(SERVERS)('over %s, a user of bash', (server) => {
  let guest: UserGuest;
  beforeAll(async () => {
    guest = await startUserGuest(server, '/bin/bash');
  });
  afterAll(() => guest?.close());

  it.each(START_UP_FILES)("whose start-up file '%s' has a job with its own output", async (text) => {
    put(guest, ['.bashrc', '.profile'], text);
    await expectOwnOutput(guest);
  });
});

it.runIf(isRoot).each(SERVERS)('over %s, a guest made by an older version has its jobs', async (server) => {
  const guest = await startUserGuest(server, '/bin/bash', false);
  try {
    const { job } = session(guest, '/bin/sh', '#!/bin/sh\nexit 7\n');
    expect(await job.run()).toMatchObject({ exitCode: 7 });
  } finally {
    await guest.close();
  }
});
