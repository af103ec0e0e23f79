// The demo guest itself: its image is built, booted in QEMU and looked at from the share and over SSH.
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { demoDirectory } from '../../src/commands/image.ts';
import type { ReadyReport } from '../../src/guest/ready/ready.ts';
import { type BuildResult, buildDemoImage } from '../../src/image/demo/build.ts';
import { run } from '../../src/util/processes/run.ts';
import { type NfsServer, startNfsServer } from '../site/nfs.ts';
import { type BootedGuest, type BootRequest, bootGuest, runOverSsh } from './boot.ts';

const USER = {
  name: 'alipilot',
  uid: 14301,
  group: 'alice',
  gid: 14300,
  groups: [
    { name: 'alice', gid: 14300 },
    { name: 'gridjobs', gid: 14310 },
    // The image has a group with this id already, under another name.
    { name: 'sitewide', gid: 100 },
  ],
  home: '/home/alipilot',
  shell: '/bin/bash',
};

const work = mkdtempSync(join(tmpdir(), 'vmbatch-guest-'));
const share = join(work, 'share');
let image: BuildResult;
let nfs: NfsServer;
const booted: BootedGuest[] = [];

async function boot(
  name: string,
  change: Omit<Partial<BootRequest>, 'context'> & { context?: Partial<BootRequest['context']> },
): Promise<BootedGuest> {
  const mount = (source: string, target: string) => ({
    type: 'nfs4',
    source: `10.0.2.2:${source}`,
    target,
    options: ['vers=4.1', 'proto=tcp', `port=${nfs.port}`, 'sec=sys', 'hard'],
  });
  const guest = await bootGuest({
    image,
    dir: join(work, name),
    readyFile: join(share, 'ready', name),
    contextDisk: 'cdrom',
    address: '10.0.2.15',
    vcpus: 1,
    ...change,
    context: {
      jobId: `${name}.batch.example.org`,
      nonce: `nonce-of-${name}`,
      hostname: `vmbatch-${name}.example.org`,
      user: USER,
      network: { addressing: 'dhcp' },
      mounts: [
        mount('/share', '/data/share'),
        ...(change.context?.mounts ?? []).map(({ source, target }) => mount(source, target)),
      ],
      repositories: [],
      readyFile: `/data/share/ready/${name}`,
      ...(change.context?.user === undefined ? {} : { user: change.context.user }),
      ...(change.context?.network === undefined ? {} : { network: change.context.network }),
    },
  });
  booted.push(guest);
  return guest;
}

function login(guest: BootedGuest, command: string) {
  const { sshPort: port, hostKey, userKey } = guest;
  return runOverSsh(
    { port, username: USER.name, hostKey: hostKey.publicKey, privateKey: userKey.privateKey },
    command,
  );
}

beforeAll(async () => {
  chmodSync(work, 0o755);
  mkdirSync(join(share, 'ready'), { recursive: true });
  chmodSync(join(share, 'ready'), 0o1777);
  const directory = demoDirectory(undefined, process.env);
  image = await buildDemoImage({ directory, force: false, run });
  nfs = await startNfsServer({ dir: join(work, 'nfs'), exportPath: share, pseudo: '/share' });
}, 300_000);

afterAll(async () => {
  for (const guest of booted) await guest.destroy();
  await nfs?.stop();
  rmSync(work, { recursive: true, force: true });
}, 60_000);

describe('a demo guest with a CD-ROM, DHCP and a local home', () => {
  let guest: BootedGuest;
  let report: ReadyReport;

  beforeAll(async () => {
    guest = await boot('first', {});
    report = await guest.ready.catch((error: unknown) => {
      throw new Error(`${error}\n${guest.console()}`);
    });
  }, 90_000);

  it('is ready within 15 seconds', () => {
    expect(guest.seconds()).toBeLessThan(15);
  });

  it('describes itself in the ready file, which belongs to the user and is complete', () => {
    expect(report).toMatchObject({
      jobId: 'first.batch.example.org',
      address: '10.0.2.15',
      port: 22,
      hostname: 'vmbatch-first.example.org',
      kernel: image.manifest.kernelRelease,
      vcpus: 1,
      system: 'vmbatch demo guest',
    });
    expect(report.memoryKiB).toBeGreaterThan(128 * 1024);
    expect(report.bootId).not.toBe(readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
    const file = statSync(join(share, 'ready/first'));
    expect([file.uid, file.gid, file.mode & 0o7777]).toEqual([USER.uid, USER.gid, 0o644]);
    expect(readdirSync(join(share, 'ready'))).toEqual(['first']);
  });

  it('lets the user in with the key and has the user and groups of the submitting side', async () => {
    const result = await login(
      guest,
      'id -u; id -g; id -G; id -un; id -Gn; pwd; echo "$HOME $SHELL"; hostname',
    );
    const [uid, gid, groups, name, groupNames, directory, home, hostname] = result.stdout.trim().split('\n');
    expect([uid, gid, name, hostname]).toEqual(['14301', '14300', 'alipilot', 'vmbatch-first.example.org']);
    expect(groups?.split(' ').sort()).toEqual(['100', '14300', '14310']);
    expect(groupNames?.split(' ').sort()).toEqual(['alice', 'gridjobs', 'sitewide']);
    expect([directory, home]).toEqual(['/home/alipilot', '/home/alipilot /bin/bash']);
    expect(result).toMatchObject({ exitCode: 0, stderr: '' });
  });

  it('refuses root, passwords, other keys and no authentication at all', async () => {
    const base = { port: guest.sshPort, hostKey: guest.hostKey.publicKey };
    const key = guest.userKey.privateKey;
    const refused = /All configured authentication methods failed/;
    await expect(runOverSsh({ ...base, username: 'root', privateKey: key }, 'true')).rejects.toThrow(refused);
    await expect(runOverSsh({ ...base, username: USER.name, password: '' }, 'true')).rejects.toThrow(refused);
    await expect(runOverSsh({ ...base, username: USER.name, password: '*' }, 'true')).rejects.toThrow(
      refused,
    );
    await expect(runOverSsh({ ...base, username: USER.name }, 'true')).rejects.toThrow(refused);
    const other = guest.hostKey.privateKey;
    await expect(runOverSsh({ ...base, username: USER.name, privateKey: other }, 'true')).rejects.toThrow(
      refused,
    );
  });

  it('has the programs that jobs and their session need', async () => {
    const result = await login(
      guest,
      `bash --version | head -n 1
       /usr/bin/time -f 'exit=%x' bash -c 'exit 3'
       f=/tmp/follow; printf 'one\\ntwo\\n' > $f; timeout 1 tail -c +5 -f $f
       cat <(echo substituted)
       mkfifo /tmp/fifo && test -p /tmp/fifo && setsid sh -c 'echo session'
       printf abc | base64; printf abc | sha256sum | cut -c 1-8
       stat -c '%a %U' /tmp /var/tmp; df -k /tmp | tail -n 1`,
    );
    const lines = result.stdout.trim().split('\n');
    expect(lines[0]).toMatch(/^GNU bash, version 5/);
    expect(lines.slice(1, 8)).toEqual([
      ...['two', 'substituted', 'session', 'YWJj', 'ba7816bf', '1777 root', '1777 root'],
    ]);
    expect(result.stderr).toContain('exit=3');
    const freeKiB = Number(lines[8]?.split(/\s+/)[3]);
    expect(freeKiB).toBeGreaterThan(1.5 * 1024 * 1024);
  });

  it('writes to the share as the user and keeps the host key from it', async () => {
    mkdirSync(join(share, 'session'));
    chownSync(join(share, 'session'), USER.uid, USER.gid);
    const result = await login(
      guest,
      'echo hello > /data/share/session/out; cat /run/vmbatch/dropbear_key /dev/sr0 /etc/shadow',
    );
    expect(result.stdout).toBe('');
    expect(result.stderr.match(/Permission denied/g)).toHaveLength(3);
    const file = statSync(join(share, 'session/out'));
    expect([file.uid, file.gid, readFileSync(join(share, 'session/out'), 'utf8')]).toEqual([
      ...[USER.uid, USER.gid, 'hello\n'],
    ]);
  });
});

describe('a demo guest with a virtio context disk, a static address and a home on the share', () => {
  let guest: BootedGuest;
  let report: ReadyReport;
  const home = join(share, 'home');

  beforeAll(async () => {
    mkdirSync(join(home, '.ssh'), { recursive: true });
    for (const path of [home, join(home, '.ssh')]) chownSync(path, USER.uid, USER.gid);
    guest = await boot('second', {
      contextDisk: 'virtio',
      address: '10.0.2.77',
      vcpus: 2,
      context: {
        user: { ...USER, home: '/data/share/home' },
        network: {
          addressing: 'static',
          address: '10.0.2.77',
          prefixLength: 24,
          gateway: '10.0.2.2',
          dns: ['10.0.2.3'],
        },
      },
    });
    report = await guest.ready.catch((error: unknown) => {
      throw new Error(`${error}\n${guest.console()}`);
    });
  }, 90_000);

  it('is ready within 15 seconds at the address that it was given', () => {
    expect(guest.seconds()).toBeLessThan(15);
    expect(report).toMatchObject({ address: '10.0.2.77', vcpus: 2 });
  });

  it('uses the gateway and the name server that it was given', async () => {
    const result = await login(guest, 'ip route; cat /etc/resolv.conf; ip -4 -o addr show dev eth0');
    expect(result.stdout).toContain('default via 10.0.2.2 dev eth0');
    expect(result.stdout).toContain('nameserver 10.0.2.3\n');
    expect(result.stdout).toContain('inet 10.0.2.77/24');
  });

  it("lets the user in and leads to the shared home without touching the user's own ~/.ssh", async () => {
    const result = await login(guest, 'echo "$HOME"; pwd; echo mark > ~/mark');
    expect(result.stdout).toBe('/data/share/home\n/data/share/home\n');
    expect(readdirSync(home).sort()).toEqual(['.ssh', 'mark']);
    expect(readdirSync(join(home, '.ssh'))).toEqual([]);
  });
});

describe('a demo guest that cannot mount a share', () => {
  it('says why in the ready file and on the console', async () => {
    const guest = await boot('third', {
      contextDisk: 'virtio',
      context: {
        mounts: [
          {
            type: 'nfs4',
            source: '/absent"share"',
            target: '/data/absent',
            options: [],
          },
        ],
      },
    });
    const error = 'mounting 10.0.2.2:/absent"share" on /data/absent failed';
    await expect(guest.ready).rejects.toThrow(`the guest could not make itself ready: ${error}`);
    expect(guest.console()).toContain(error);
    expect(statSync(join(share, 'ready/third')).uid).toBe(USER.uid);
  }, 90_000);
});
