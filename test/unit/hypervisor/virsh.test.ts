import { describe, expect, it } from 'vitest';
import { openVirsh } from '../../../src/hypervisor/virsh.ts';
import type { Run, RunResult } from '../../../src/util/run.ts';

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
