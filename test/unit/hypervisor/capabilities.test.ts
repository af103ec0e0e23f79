import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  cachedCapabilities,
  checkDemands,
  type HostCapabilities,
  parseDomainCapabilities,
} from '../../../src/hypervisor/capabilities.ts';
import type { Run } from '../../../src/util/processes/run.ts';

let state: string;
beforeEach(() => {
  state = mkdtempSync(join(tmpdir(), 'vmbatch-capabilities-'));
});
afterEach(() => rmSync(state, { recursive: true, force: true }));

// As libvirt 9.0 writes it, shortened.
const answer = (emulator: string, driver = 'virtiofs') => `<domainCapabilities>
  <path>${emulator}</path>
  <domain>qemu</domain>
  <cpu>
    <mode name='host-passthrough' supported='no'/>
    <mode name='maximum' supported='yes'>
      <enum name='maximumMigratable'><value>on</value></enum>
    </mode>
    <mode name='host-model' supported='yes'/>
  </cpu>
  <devices>
    <filesystem supported='yes'>
      <enum name='driverType'>
        <value>path</value>
        <value>${driver}</value>
      </enum>
    </filesystem>
  </devices>
</domainCapabilities>
`;

function libvirt(emulator: string) {
  const asked: string[] = [];
  const run: Run = async (_file, args) => {
    const command = args[3] ?? '';
    asked.push(command);
    const stdout =
      command === 'domcapabilities'
        ? answer(emulator)
        : ' 0cc4bb0d-1d6f-4e41-8b48-1d1d0d4ac45b   clean-traffic\n';
    return {
      ...{ command: 'virsh', exitCode: 0, signal: undefined, stdout, stderr: '', timedOut: false },
      ...{ cancelled: false, notFound: false, seconds: 0 },
    };
  };
  const ask = (machine?: string) =>
    cachedCapabilities({ uri: 'qemu:///system', type: 'qemu', machine, timeoutMs: 1000, run }, state);
  return { asked, ask };
}

describe('parseDomainCapabilities', () => {
  it('finds the emulator, the CPU modes that are supported, and virtiofs', () => {
    expect(parseDomainCapabilities(answer('/usr/bin/qemu'))).toEqual({
      emulator: '/usr/bin/qemu',
      cpuModes: ['maximum', 'host-model'],
      virtiofs: true,
    });
    expect(parseDomainCapabilities(answer('/q', 'handle')).virtiofs).toBe(false);
    expect(parseDomainCapabilities('nonsense')).toEqual({ emulator: '', cpuModes: [], virtiofs: false });
  });
});

describe('cachedCapabilities', () => {
  it('asks libvirt once, and again when QEMU is another or another machine is meant', async () => {
    const emulator = join(state, 'qemu');
    writeFileSync(emulator, 'QEMU');
    const { asked, ask } = libvirt(emulator);
    const first = await ask();
    expect(first).toMatchObject({ emulator, filters: ['clean-traffic'] });
    expect(await ask()).toMatchObject({ emulator, filters: ['clean-traffic'] });
    expect(asked).toEqual(['domcapabilities', 'nwfilter-list']);
    utimesSync(emulator, 1, 1);
    await ask();
    expect(asked).toHaveLength(4);
    await ask('q35');
    expect(asked).toHaveLength(6);
  });

  it('asks again where what it remembers is broken', async () => {
    const { asked, ask } = libvirt('/q');
    writeFileSync(join(state, 'capabilities.json'), '{"key":');
    await ask();
    expect(asked).toHaveLength(2);
  });
});

describe('checkDemands', () => {
  const HERE: HostCapabilities = { emulator: '/q', cpuModes: ['maximum'], virtiofs: false, filters: [] };
  const demands = (changes: object = {}) => ({
    hypervisor: { cpu: undefined, hugepageBytes: undefined, type: 'auto', ...changes },
    share: { type: 'nfs' },
    mounts: [],
  });

  it('finds nothing wrong with what the node can do, or where nobody knows', () => {
    expect(() => checkDemands(demands({ cpu: 'maximum' }), HERE)).not.toThrow();
    expect(() => checkDemands(demands({ cpu: 'Nehalem' }), HERE)).not.toThrow();
    expect(() => checkDemands({ ...demands(), share: { type: 'virtiofs' } }, undefined)).not.toThrow();
  });

  it.each([
    [
      'a CPU mode',
      demands({ cpu: 'host-passthrough' }),
      /hypervisor\.cpu: found host-passthrough, .* offers maximum/,
    ],
    ['virtiofs', { ...demands(), share: { type: 'virtiofs' } }, /share\.type: found virtiofs/],
    ['huge pages', demands({ hugepageBytes: 1024 ** 3 }), /no huge pages of 1 GiB/],
  ])('refuses %s that the node does not have as a fault of the node', (_what, wanted, message) => {
    const check = () => checkDemands(wanted, HERE, state);
    expect(check).toThrow(message);
    expect(check).toThrow(expect.objectContaining({ fault: 'node', code: 'capability-missing' }));
  });

  it('takes huge pages of a size that the kernel has', () => {
    mkdirSync(join(state, 'sys/kernel/mm/hugepages/hugepages-2048kB'), { recursive: true });
    expect(() => checkDemands(demands({ hugepageBytes: 2 * 1024 ** 2 }), HERE, state)).not.toThrow();
  });
});
