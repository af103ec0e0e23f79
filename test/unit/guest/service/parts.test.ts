// What the guest service does with disks, features and other guests, under the shells that this machine has.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { resourcePath } from '../../../../src/util/program/resources.ts';

const SERVICE = resourcePath('share/guest/vmbatch-guest');
const SHELLS = [
  ['dash', '/bin/dash'],
  ['bash', '/bin/bash'],
].filter(([, program]) => existsSync(program ?? ''));

it('the guest service defines each of its functions once', () => {
  const names = [...readFileSync(SERVICE, 'utf8').matchAll(/^([a-z_]+)\(\) /gm)].map(([, name]) => name);
  expect(names.length).toBeGreaterThan(50);
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
});

describe.each(SHELLS)('the guest service under %s', (_name, program = '') => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'vmbatch-parts-'));
    mkdirSync(join(directory, 'etc'));
    mkdirSync(join(directory, 'sys'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  /** With the system's directories below ours, and what is logged on stdout. */
  const shell = (script: string) =>
    execFileSync(
      program,
      [
        '-c',
        `. ${SERVICE}\nSTATE=$1 ETC=$1/etc SYS=$1/sys\nlog() { echo "log: $1"; }\n${script}`,
        'test',
        directory,
      ],
      { encoding: 'utf8' },
    );
  const put = (path: string, text: string) => {
    mkdirSync(join(directory, path, '..'), { recursive: true });
    writeFileSync(join(directory, path), text);
  };

  it('finds disks by their serial numbers, whatever they are called', () => {
    put('sys/block/vda/serial', 'vmbatch-root');
    put('sys/block/vdb/serial', 'vmbatch-cache');
    put('sys/block/vdc/serial', 'vmbatch-scratch');
    put('sys/block/sr0/size', '1');
    expect(shell('VMBATCH_DISKS=; find_disk scratch && echo $disk; find_disk cache && echo $disk')).toBe(
      '/dev/vdc\n/dev/vdb\n',
    );
    expect(shell('VMBATCH_DISKS="nosuch:scratch2"; find_disk scratch2 || echo none')).toBe('none\n');
  });

  it.each([
    ['/dev/vdc 61611 58600 3011 96% /c', 'full'],
    ['/dev/vdc 61611 1 60000 1% /c', 'room'],
    ['/dev/vdc 61611 61611 -3000 100% /c', 'full'],
    ['nonsense', 'room'],
    ['', 'room'],
  ])('takes a cache disk for full by what df says: %s', (line, is) => {
    const df = line === '' ? 'df() { return 1; }' : `df() { printf 'Filesystem\\n%s\\n' '${line}'; }`;
    expect(shell(`${df}; if is_full /c; then echo full; else echo room; fi`)).toBe(`${is}\n`);
  });

  it('takes the interface with the MAC address that it was told', () => {
    for (const [name, mac] of [
      ['eth0', '52:54:00:00:00:01'],
      ['eth1', '52:54:00:00:00:02'],
    ] as const) {
      put(`sys/class/net/${name}/address`, `${mac}\n`);
      put(`sys/class/net/${name}/device/x`, '');
    }
    expect(shell('VMBATCH_MAC=52:54:00:00:00:02; find_interface; echo $interface')).toBe('eth1\n');
    expect(shell('VMBATCH_MAC=; find_interface; echo $interface')).toBe('eth0\n');
  });

  it('writes Machine/Job Features as files, and only under names that are ones', () => {
    shell('write_features "$1/features" total_cpu=2 ../evil=1 hs06=40 =x');
    expect(readdirSync(join(directory, 'features')).sort()).toEqual(['hs06', 'total_cpu']);
    expect(readFileSync(join(directory, 'features/total_cpu'), 'utf8')).toBe('2\n');
  });

  it('learns names and keys of other guests, and takes nothing that is no address, name or key', () => {
    const [host, user] = ['ssh-ed25519 AAAAhost', 'ssh-ed25519 AAAAuser'];
    put(
      'peers',
      [
        `192.0.2.1 guest-1 ${host}1 ${user}1`,
        `2001:db8::2 guest-2 ${host}2 ${user}2 and more`,
        `$(id) guest-3 ${host}3 ${user}3`,
        `192.0.2.4 -x ${host}4 ${user}4`,
        `192.0.2.5 guest-5 ${host}5 command="id" ${user}5`,
        `192.0.2.6 guest-6 ${host}6`,
        '',
      ].join('\n'),
    );
    const output = shell(
      'VMBATCH_HOSTNAME=guest-1; learn_peers <"$1/peers"; printf "%s|%s|%s" "$peer_hosts" "$peer_known" "$peer_keys"',
    );
    expect(output.split('|')).toEqual([
      '2001:db8::2 guest-2\n',
      `guest-1 ${host}1\n192.0.2.1 ${host}1\nguest-2 ${host}2\n2001:db8::2 ${host}2\n`,
      `${user}1\n${user}2\n`,
    ]);
  });

  it('knows a disk with an ext file system from a blank one', () => {
    put('blank', '\0'.repeat(4096));
    execFileSync('mke2fs', ['-q', '-F', '-t', 'ext4', join(directory, 'made'), '1024k'], { stdio: 'ignore' });
    expect(shell('for disk in blank made; do has_file_system "$1/$disk" && echo $disk; done; true')).toBe(
      'made\n',
    );
  });

  it('leaves a time zone alone that is a path, and names one that the image does not know', () => {
    expect(shell('VMBATCH_TIMEZONE=../../etc/shadow; set_time_zone')).toBe('');
    expect(existsSync(join(directory, 'etc/localtime'))).toBe(false);
    expect(shell('VMBATCH_TIMEZONE=Nowhere/Land; set_time_zone')).toBe(
      'log: the image knows no time zone Nowhere/Land\n',
    );
  });

  it.each([
    ['as much as the host says', '14336', '14336'],
    ['70 % of the disk, where the host has said nothing', '', '7000'],
  ])('lets CernVM-FS keep %s', (_what, told, quota) => {
    shell(`cvmfs2() { :; }; load_drivers() { :; }; is_mounted() { :; }; mkdir() { command mkdir -p "$STATE\${2#"$STATE"}"; }
      df() { echo header; echo '/dev/vdb 10240000 1 2 3% /x'; }
      VMBATCH_REPOSITORIES=alice.cern.ch VMBATCH_CVMFS_PROXY= VMBATCH_CVMFS_SERVER=
      VMBATCH_CACHE=/var/lib/cvmfs VMBATCH_CACHE_QUOTA=${told}; mount_repositories`);
    const text = readFileSync(join(directory, 'etc/cvmfs/default.local'), 'utf8');
    expect(text).toContain(`CVMFS_QUOTA_LIMIT='${quota}'\n`);
  });

  it('notes down what its job may miss, for the log of the host', () => {
    put('etc/os-release', '');
    shell(`VMBATCH_REPOSITORIES=a.cern.ch VMBATCH_CVMFS_PROXY=; command() { false; }; mount_repositories`);
    expect(readFileSync(join(directory, 'notes'), 'utf8')).toBe(
      'the image has no CernVM-FS: no repositories (a.cern.ch)\n',
    );
  });
});
