// What the guest service does with disks, features and other guests, under the shells that this machine has.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { resourcePath } from '../../../src/util/resources.ts';

const SERVICE = resourcePath('share/guest/vmbatch-guest');
const SHELLS = [
  ['dash', '/bin/dash'],
  ['bash', '/bin/bash'],
].filter(([, program]) => existsSync(program ?? ''));

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

  it('puts other guests into the hosts file once each, and nothing that is no address and name', () => {
    put('etc/hosts', '127.0.0.1 localhost\n');
    put('peers/wn1', '192.0.2.1 guest-1\n');
    put('peers/wn2', '2001:db8::2 guest-2 and more\n');
    put('peers/evil1', '$(id) guest-3\n');
    put('peers/evil2', '192.0.2.3 -x\n');
    put('peers/empty', '');
    symlinkSync('/etc/passwd', join(directory, 'peers/link'));
    const output = shell('VMBATCH_PEERS_DIRECTORY=$1/peers; learn_peers; learn_peers; echo $known');
    expect(output).toBe('2\n');
    expect(readFileSync(join(directory, 'etc/hosts'), 'utf8')).toBe(
      '127.0.0.1 localhost\n192.0.2.1 guest-1\n2001:db8::2 guest-2\n',
    );
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
});
