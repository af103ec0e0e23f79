// The demo guest with everything that a guest may have besides: disks, hooks, features; and a second one on
// its cache disk.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { demoDirectory } from '../../src/commands/image.ts';
import { createSparseFile } from '../../src/guest/disk/scratch.ts';
import { afterJobCommand } from '../../src/guest/session/remote-programs.ts';
import { type BuildResult, buildDemoImage } from '../../src/image/demo/build.ts';
import { run } from '../../src/util/processes/run.ts';
import { type NfsServer, startNfsServer } from '../site/nfs.ts';
import { type BootedGuest, bootGuest, runOverSsh } from './boot.ts';

const USER = {
  name: 'alipilot',
  uid: 14301,
  group: 'alice',
  gid: 14300,
  groups: [],
  home: '/home/alipilot',
  shell: '/bin/sh',
};
const work = mkdtempSync(join(tmpdir(), 'vmbatch-equipped-'));
const share = join(work, 'share');
const cacheDisk = join(work, 'cache.raw');
const booted: BootedGuest[] = [];
let image: BuildResult;
let nfs: NfsServer;

beforeAll(async () => {
  chmodSync(work, 0o755);
  mkdirSync(join(share, 'ready'), { recursive: true });
  chmodSync(join(share, 'ready'), 0o1777);
  createSparseFile(cacheDisk, 64 * 1024 ** 2);
  const directory = demoDirectory(undefined, process.env);
  image = await buildDemoImage({ directory, force: false, run });
  nfs = await startNfsServer({ dir: join(work, 'nfs'), exportPath: share, pseudo: '/share' });
}, 300_000);

afterAll(async () => {
  for (const guest of booted) await guest.destroy();
  await nfs?.stop();
  rmSync(work, { recursive: true, force: true });
}, 60_000);

async function boot(name: string): Promise<(command: string) => Promise<string>> {
  const scratchDisk = join(work, `${name}.raw`);
  createSparseFile(scratchDisk, 128 * 1024 ** 2);
  const guest = await bootGuest({
    image,
    dir: join(work, name),
    readyFile: join(share, 'ready', name),
    contextDisk: 'cdrom',
    address: '10.0.2.15',
    vcpus: 1,
    disks: [
      { file: scratchDisk, serial: 'vmbatch-scratch' },
      { file: cacheDisk, serial: 'vmbatch-cache' },
    ],
    scripts: {
      beforeJob: Buffer.from('#!/bin/sh\necho "$JOB_ID $JOB_USER $SCRATCH $(id -u)" >/etc/before\n'),
      afterJob: Buffer.from('#!/bin/sh\necho "after $JOB_ID" >/etc/after\nexit 3\n'),
    },
    context: {
      jobId: `${name}.batch`,
      nonce: `nonce-of-${name}`,
      hostname: `vmbatch-${name}`,
      user: USER,
      network: {
        addressing: 'static',
        address: '10.0.2.15',
        prefixLength: 24,
        gateway: '10.0.2.2',
        address6: { address: 'fec0::15', prefixLength: 64, gateway: 'fec0::2' },
        dns: ['10.0.2.3'],
        domain: 'example.org',
      },
      mounts: [
        {
          type: 'nfs4',
          source: '10.0.2.2:/share',
          target: '/data/share',
          options: ['vers=4.1', 'proto=tcp', `port=${nfs.port}`, 'sec=sys', 'hard'],
        },
      ],
      repositories: ['alice.cern.ch'],
      readyFile: `/data/share/ready/${name}`,
      extras: {
        disks: ['vda:root', 'vdb:scratch', 'vdc:cache'],
        scratch: '/scratch',
        cache: { path: '/var/lib/cvmfs', quotaMebibytes: 44 },
        ready: 'file',
        timeZone: 'Europe/Berlin',
        ntp: [],
        cvmfs: { proxy: undefined, server: undefined },
        beforeJob: true,
        afterJob: true,
        machineFeatures: { total_cpu: 1, hs06: 12 },
        jobFeatures: { wall_limit_secs: 3600, job_id: `${name}.batch` },
      },
    },
  });
  booted.push(guest);
  await guest.ready.catch((error: unknown) => {
    throw new Error(`${String(error)}\n${guest.console()}`);
  });
  const { sshPort: port, hostKey, userKey } = guest;
  return async (command) => {
    const login = { port, username: USER.name, hostKey: hostKey.publicKey, privateKey: userKey.privateKey };
    const { stdout, stderr } = await runOverSsh(login, command);
    return `${stdout}${stderr}`.trim();
  };
}

describe('a guest with everything', () => {
  let ask: (command: string) => Promise<string>;
  beforeAll(async () => {
    ask = await boot('first');
  }, 90_000);

  it("has a scratch disk of the size asked for, which is the user's alone", async () => {
    expect(
      await ask('stat -c "%a %U" /scratch; touch /scratch/x && ls /scratch; df -m /scratch | tail -1'),
    ).toMatch(/^700 alipilot\nlost\+found\nx\n\/dev\/vd[bc] +1[0-2]\d /);
  });

  it('has its cache disk, made on a blank one', async () => {
    expect(await ask('grep -c " /var/lib/cvmfs ext4 " /proc/mounts')).toBe('1');
    expect(booted[0]?.console()).toMatch(/cache disk \/dev\/vd[bc] on \/var\/lib\/cvmfs \(made\)/);
  });

  it("has run the site's hook as root before it said that it is ready", async () => {
    expect(await ask('cat /etc/before')).toBe('first.batch alipilot /scratch 0');
  });

  it("runs the site's hook after the job once it is asked to, and tells its exit code", async () => {
    expect(await ask('cat /etc/after 2>/dev/null')).toBe('');
    expect(await ask(afterJobCommand(10))).toBe('3');
    expect(await ask('cat /etc/after')).toBe('after first.batch');
    // Asked again, it does not run again and does not hang.
    expect(await ask(afterJobCommand(10))).toBe('3');
  });

  it('has the Machine/Job Features, both addresses, the search domain and the time zone', async () => {
    expect(await ask('cat /etc/machinefeatures/hs06 /etc/jobfeatures/wall_limit_secs')).toBe('12\n3600');
    expect(await ask('ip -o addr show dev eth0')).toMatch(/inet 10\.0\.2\.15\/24[\s\S]*inet6 fec0::15\/64/);
    expect(await ask('cat /etc/resolv.conf')).toBe('search example.org\nnameserver 10.0.2.3');
    expect(await ask('cat /etc/timezone')).toBe('Europe/Berlin');
  });

  it('lets users make user namespaces, as Apptainer needs them', async () => {
    expect(await ask('unshare -U -r id -u')).toBe('0');
  });

  it('has its report where the other ready channels look for it, and goes on without CernVM-FS', async () => {
    expect(JSON.parse(await ask('cat /run/vmbatch/ready.json'))).toMatchObject({
      jobId: 'first.batch',
      address: '10.0.2.15',
    });
    expect(booted[0]?.console()).toMatch(/the image has no CernVM-FS: no repositories/);
    expect(
      await ask(
        'cat /run/vmbatch/host_key /run/vmbatch/dropbear_key 2>&1 | head -c 10; ls /run/vmbatch 2>&1',
      ),
    ).toMatch(/(denied|No such)/i);
  });
});

describe('the next guest on the same cache disk', () => {
  it('finds what was there, although the guest before was destroyed without warning', async () => {
    const [first] = booted;
    // Left as a guest leaves it: root's, on the disk since the file system commits every few seconds.
    await first?.destroy();
    await boot('second');
    expect(booted[1]?.console()).toMatch(/cache disk \/dev\/vd[bc] on \/var\/lib\/cvmfs \(kept\)/);
  }, 90_000);

  it('has it made anew when a guest before has filled it with what nobody can use', async () => {
    await booted[1]?.destroy();
    const junk = join(work, 'junk');
    writeFileSync(junk, Buffer.alloc(64 * 1024 ** 2, 1));
    // Until nothing more goes on the disk; it says so, and its exit code says nothing.
    await run('debugfs', ['-w', '-R', `write ${junk} junk`, cacheDisk]);
    const ask = await boot('third');
    expect(booted[2]?.console()).toMatch(/cache disk \/dev\/vd[bc] on \/var\/lib\/cvmfs \(full, made anew\)/);
    expect(await ask('ls /var/lib/cvmfs')).toBe('lost+found');
  }, 90_000);
});
