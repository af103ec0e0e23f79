import { describe, expect, it } from 'vitest';
import { openVirsh } from '../../../src/hypervisor/virsh.ts';
import type { Run, RunResult } from '../../../src/util/processes/run.ts';

const ANSWER: RunResult = {
  command: 'virsh',
  exitCode: 0,
  signal: undefined,
  stdout: '',
  stderr: '',
  timedOut: false,
  cancelled: false,
  notFound: false,
  seconds: 0.1,
};

function virsh(answer: Partial<RunResult>) {
  const calls: string[][] = [];
  const run: Run = async (file, args) => {
    calls.push([file, ...args]);
    return { ...ANSWER, ...answer };
  };
  return { calls, hypervisor: openVirsh({ uri: 'qemu:///system', timeoutMs: 1_000, run }) };
}

// As libvirt 9.0 words them.
const UNREACHABLE =
  "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/run/libvirt/libvirt-sock': No such file or directory\n";
const NO_DOMAIN = "error: failed to get domain 'vmbatch-7.server'\n";

describe('openVirsh', () => {
  it('starts a transient domain on the connection it was given', async () => {
    const { calls, hypervisor } = virsh({});
    await hypervisor.create('/state/domain.xml', 1_000);
    expect(calls).toEqual([
      ['virsh', '--quiet', '--connect', 'qemu:///system', 'create', '/state/domain.xml'],
    ]);
  });

  it.each([
    ['nothing listens', { exitCode: 1, stderr: UNREACHABLE }],
    ['virsh is not installed', { exitCode: undefined, notFound: true }],
    ['libvirtd hangs', { exitCode: undefined, timedOut: true }],
  ])('says that libvirt cannot be reached when %s', async (_why, answer) => {
    const { hypervisor } = virsh(answer);
    await expect(hypervisor.create('x.xml', 1_000)).rejects.toMatchObject({
      fault: 'node',
      code: 'hypervisor-unreachable',
      message: expect.stringContaining('qemu:///system'),
    });
  });

  it('passes on why libvirt refused a domain', async () => {
    const { hypervisor } = virsh({
      exitCode: 1,
      stderr: 'error: Failed to create domain\nerror: no memory\n',
    });
    await expect(hypervisor.create('x.xml', 1_000)).rejects.toMatchObject({
      code: 'hypervisor-refused',
      message: expect.stringContaining('no memory'),
    });
  });

  it('finds nothing wrong with destroying a domain that is gone', async () => {
    await expect(
      virsh({ exitCode: 1, stderr: NO_DOMAIN }).hypervisor.destroy('vmbatch-7.server'),
    ).resolves.toBeUndefined();
  });

  it('does not take a failure to destroy for success', async () => {
    const { hypervisor } = virsh({
      exitCode: 1,
      stderr: 'error: Failed to terminate process 1: Device or resource busy\n',
    });
    await expect(hypervisor.destroy('vmbatch-7.server')).rejects.toMatchObject({
      code: 'hypervisor-refused',
    });
  });

  it('lists names without the blank line at the end', async () => {
    const { hypervisor } = virsh({ stdout: 'vmbatch-1.server\nother\n\n' });
    expect(await hypervisor.list()).toEqual(['vmbatch-1.server', 'other']);
  });
});

describe('what else virsh is asked', () => {
  it('reads addresses of a domain from every line that is one', async () => {
    const stdout = ` Name       MAC address          Protocol     Address
-------------------------------------------------------------------------------
 vnet0      52:54:00:AA:bb:cc    ipv4         192.0.2.20/24
 vnet0      52:54:00:aa:bb:cc    ipv6         2001:db8::5/64
 lo         00:00:00:00:00:00    N/A          N/A
`;
    const { calls, hypervisor } = virsh({ stdout });
    expect(await hypervisor.addresses('vmbatch-1.s', 'lease')).toEqual([
      { mac: '52:54:00:aa:bb:cc', address: '192.0.2.20' },
      { mac: '52:54:00:aa:bb:cc', address: '2001:db8::5' },
    ]);
    expect(calls[0]?.slice(4)).toEqual(['domifaddr', 'vmbatch-1.s', '--full', '--source', 'lease']);
  });

  it('hands on what the guest agent returns, and says when there is none', async () => {
    const { hypervisor, calls } = virsh({ stdout: '{"return":{"pid":7}}\n' });
    expect(await hypervisor.agent('vmbatch-1.s', { execute: 'guest-exec' }, 1_500)).toEqual({ pid: 7 });
    expect(calls[0]?.slice(4)).toEqual([
      'qemu-agent-command',
      'vmbatch-1.s',
      '--timeout',
      '2',
      '{"execute":"guest-exec"}',
    ]);
    const silent = virsh({ exitCode: 1, stderr: 'error: Guest agent is not responding\n' });
    await expect(silent.hypervisor.agent('x', {}, 1_000)).rejects.toMatchObject({ code: 'agent-silent' });
    await expect(virsh({ stdout: 'garbage' }).hypervisor.agent('x', {}, 1_000)).rejects.toMatchObject({
      code: 'agent-silent',
    });
  });

  it('tells a guest that is stopped, why, and which disk is full', async () => {
    const state = async (words: string, errors = '') => {
      const run: Run = async (_file, args) => ({
        ...ANSWER,
        stdout: args.includes('domblkerror') ? errors : `${words}\n\n`,
      });
      return openVirsh({ uri: 'qemu:///system', timeoutMs: 1_000, run }).state('vmbatch-7.server');
    };
    expect(await state('paused (I/O error)', 'vda: no space\nvdb: unspecified error\n')).toEqual({
      state: 'paused',
      reason: 'I/O error',
      diskErrors: ['vda: no space', 'vdb: unspecified error'],
    });
    expect(await state('paused (user)', 'No errors found\n')).toEqual({
      state: 'paused',
      reason: 'user',
      diskErrors: [],
    });
    expect(await state('running (booted)')).toMatchObject({ state: 'running', reason: 'booted' });
    expect(await state('shut off (destroyed)')).toMatchObject({ state: 'shut off' });
    expect(await virsh({ exitCode: 1, stderr: NO_DOMAIN }).hypervisor.state('x')).toBeUndefined();
  });

  it('knows the network filters, and none where the connection has no such thing', async () => {
    const stdout = ` UUID                                   Name
------------------------------------------------------------------
 0cc4bb0d-1d6f-4e41-8b48-1d1d0d4ac45b   clean-traffic
`;
    expect(await virsh({ stdout }).hypervisor.filters()).toEqual(['clean-traffic']);
    expect(
      await virsh({ exitCode: 1, stderr: 'error: this function is not supported' }).hypervisor.filters(),
    ).toEqual([]);
  });
});
