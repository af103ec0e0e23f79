import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cpusOfJob, numaNodesOf, parseCpus } from '../../../src/hypervisor/cpus.ts';
import { chooseDomainType } from '../../../src/hypervisor/domain-type.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmbatch-cpus-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function put(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

describe('cpusOfJob', () => {
  it.each([
    'dev/cpuset/torque/7.server/cpus',
    'sys/fs/cgroup/cpuset/torque/7.server/cpuset.cpus',
    'sys/fs/cgroup/torque/7.server/cpuset.cpus',
  ])('reads %s', (path) => {
    put(path, '2-3,8\n');
    expect(cpusOfJob('7.server', root)).toEqual([2, 3, 8]);
  });

  it('knows nothing where there is no cpuset, or an empty one', () => {
    expect(cpusOfJob('7.server', root)).toBeUndefined();
    put('dev/cpuset/torque/7.server/cpus', '\n');
    expect(cpusOfJob('7.server', root)).toBeUndefined();
  });
});

describe('numaNodesOf', () => {
  it('names the nodes of the CPUs', () => {
    put('sys/devices/system/node/node0/cpulist', '0-3\n');
    put('sys/devices/system/node/node1/cpulist', '4-7\n');
    expect(numaNodesOf([1, 2], root)).toEqual([0]);
    expect(numaNodesOf([3, 4], root)).toEqual([0, 1]);
  });

  it('knows nothing where the kernel tells of no nodes', () => {
    expect(numaNodesOf([0], root)).toBeUndefined();
  });
});

describe('parseCpus', () => {
  it.each(['a', '3-1', '1,,2', '-1', '0-99999', '1-2-3'])('refuses %j', (text) => {
    expect(parseCpus(text)).toBeUndefined();
  });
});

describe('chooseDomainType', () => {
  it('does as the node file says, and takes xen for a connection to Xen', () => {
    expect([chooseDomainType('kvm'), chooseDomainType('qemu')]).toEqual(['kvm', 'qemu']);
    expect(chooseDomainType('auto', 'xen:///system')).toBe('xen');
  });
});
