// Whose a state directory is: the same machine under other circumstances goes on, and another machine touches
// nothing.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { changeGuard } from '../../../../src/node/guard/state.ts';
import { noteFault } from '../../../../src/node/guard/watch.ts';
import { releaseKept } from '../../../../src/node/life/kept.ts';
import { compareMachines, type Machine, thisMachine } from '../../../../src/node/owner/machine.ts';
import {
  adoptState,
  foreignOwner,
  mustBeOwn,
  ownerFile,
  ownState,
} from '../../../../src/node/owner/state-owner.ts';
import { jobPaths } from '../../../../src/node/record.ts';
import type { Run } from '../../../../src/util/processes/run.ts';
import { type FakeNode, fakeNode, leftOn } from '../../../support/fake-node.ts';

const WN1: Machine = {
  name: 'wn1.example.org',
  id: '11111111111111111111111111111111',
  boot: 'a0000000-0000-0000-0000-000000000001',
  hardware: ['uuid 4c4c4544-0001-4a10-8054-c2c04f4e3732', 'card 3c:ec:ef:00:00:01', 'card 3c:ec:ef:00:00:02'],
};
const NEXT_START = 'a0000000-0000-0000-0000-000000000002';
const WN2: Machine = {
  name: 'wn2.example.org',
  id: '22222222222222222222222222222222',
  boot: 'b0000000-0000-0000-0000-000000000001',
  hardware: ['uuid 4c4c4544-0002-4a10-8054-c2c04f4e3732', 'card 3c:ec:ef:00:00:11'],
};

describe('a machine', () => {
  it.each<[string, Partial<Machine>]>([
    ['after another start', { boot: NEXT_START }],
    ['with the short form of its name', { name: 'wn1' }],
    ['before it has its name', { name: undefined }],
    ['before it has its name, after another start', { name: undefined, boot: NEXT_START }],
    ['without its machine-id', { id: undefined }],
    ['diskless, with the new machine-id of another start', { id: WN2.id, boot: NEXT_START }],
    ['renamed before another start', { name: 'worker7', boot: NEXT_START }],
    ['with another mainboard', { hardware: WN2.hardware, boot: NEXT_START }],
    ['with one of its cards replaced', { hardware: ['card 3c:ec:ef:00:00:02', 'card 00:11:22:33:44:55'] }],
    ['of which we may see no hardware', { hardware: [], boot: NEXT_START }],
  ])('is the same %s', (_how, change) => {
    expect(compareMachines(WN1, { ...WN1, ...change })).toEqual({ is: 'same' });
  });

  it.each<[string, Partial<Machine>]>([
    ['with name, machine-id and hardware of its own', {}],
    ['that was cloned, with the machine-id of the first', { id: WN1.id }],
    ['that was cloned, with a boot id and no hardware to see', { id: WN1.id, hardware: [] }],
    ['that was cloned and has no name yet', { id: WN1.id, name: undefined }],
    ['with the same name, which some other site has, too', { name: WN1.name }],
    ['without a machine-id', { id: undefined }],
    ['without name and machine-id', { id: undefined, name: undefined }],
    ['in a container of the first: another name', { ...WN1, name: 'wn2' }],
    ['in a container of the first: another machine-id', { ...WN1, id: WN2.id }],
    ['in a container of the first: another name and no machine-id', { ...WN1, name: 'wn2', id: undefined }],
    ['whose name begins like the first one', { ...WN1, name: 'wn10', boot: WN2.boot, hardware: [] }],
  ])('is another one %s', (_how, change) => {
    expect(compareMachines(WN1, { ...WN2, ...change })).toMatchObject({ is: 'other' });
  });

  it('is not told by what whole series of machines have in common', () => {
    const root = mkdtempSync(join(tmpdir(), 'vmbatch-machine-'));
    const put = (path: string, text: string) => {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), `${text}\n`);
    };
    put('etc/machine-id', 'uninitialized');
    put('proc/sys/kernel/random/boot_id', WN1.boot);
    put('sys/class/dmi/id/product_uuid', '03000200-0400-0500-0006-000700080009');
    const card = (name: string, type: string, address: string, device = true) => {
      put(`sys/class/net/${name}/addr_assign_type`, type);
      put(`sys/class/net/${name}/address`, address);
      if (device) put(`sys/class/net/${name}/device/uevent`, 'DRIVER=x');
    };
    card('eth0', '0', '3c:ec:ef:00:00:01');
    card('eth1', '3', '3c:ec:ef:00:00:07');
    card('virbr0', '0', '52:54:00:00:00:01', false);
    card('lo', '0', '00:00:00:00:00:00');
    expect(thisMachine(root, 'localhost.localdomain')).toEqual({
      boot: WN1.boot,
      hardware: ['card 3c:ec:ef:00:00:01'],
    });
    rmSync(root, { recursive: true });
  });
});

describe.runIf(process.getuid?.() === 0)('the state directory', () => {
  let node: FakeNode;
  const state = () => node.config.state;
  const giveTo = (machine: Machine) =>
    writeFileSync(ownerFile(state()), JSON.stringify({ version: 1, machine, since: 1 }));

  beforeEach(async () => {
    node = await fakeNode('starts: 0');
  });
  afterEach(() => node.remove());

  it('is that of the machine that first used it, which goes on as it changes', () => {
    mkdirSync(state());
    expect(foreignOwner(state(), WN1)).toBeUndefined();
    ownState(state(), WN1);
    expect(() => ownState(state(), WN2)).toThrow(/belongs to wn1.example.org .*this is wn2.example.org/);
    const renamed = { ...WN1, name: 'worker7', boot: NEXT_START };
    ownState(state(), renamed);
    // From now on it is known by the new name.
    mustBeOwn(state(), { ...renamed, boot: WN2.boot, hardware: [] });
    expect(() => mustBeOwn(state(), { ...WN1, hardware: [] })).toThrow(/host name/);
  });

  it('is refused when nobody can say whose it is', () => {
    mkdirSync(state());
    writeFileSync(ownerFile(state()), '');
    expect(foreignOwner(state())).toMatchObject({ code: 'state-of-another-node', fault: 'node' });
  });

  it('is handed over on purpose', () => {
    mkdirSync(state());
    ownState(state(), WN1);
    expect(adoptState(state(), WN2)).toContain('wn1.example.org');
    mustBeOwn(state(), WN2);
    expect(() => mustBeOwn(state(), WN1)).toThrow(/belongs to wn2/);
    expect(adoptState(state(), WN2)).toBeUndefined();
  });

  it('of another node is left as it is by everything that writes there', async () => {
    await node.start('7.server');
    node.forget('7.server');
    giveTo(WN2);
    const before = leftOn(node, '7.server');
    const record = readFileSync(jobPaths(state(), '7.server').record, 'utf8');
    const refused = { code: 'state-of-another-node', fault: 'node' };
    await expect(node.start('8.server')).rejects.toMatchObject(refused);
    await expect(node.end('7.server')).rejects.toMatchObject(refused);
    await expect(node.reap()).rejects.toMatchObject(refused);
    await expect(node.reap({ dryRun: true })).rejects.toMatchObject(refused);
    await expect(changeGuard(state(), (guard) => guard)).rejects.toMatchObject(refused);
    const nobody = { write: () => undefined, close: async () => undefined };
    await expect(
      releaseKept(
        state(),
        () => true,
        () => node.hypervisor,
        nobody,
      ),
    ).rejects.toMatchObject(refused);
    expect(leftOn(node, '7.server')).toEqual(before);
    expect(readFileSync(jobPaths(state(), '7.server').record, 'utf8')).toBe(record);
  });

  it('of another node takes this one offline at once, without a note in it', async () => {
    mkdirSync(state());
    giveTo(WN2);
    const calls: (readonly string[])[] = [];
    const run = (async (_file: string, args: readonly string[]) => {
      calls.push(args);
      return { exitCode: 0 };
    }) as unknown as Run;
    const log = { write: () => undefined, close: async () => undefined };
    const options = { state: state(), images: 1, node: 'wn1', run, log };
    const fault = { jobId: '7.s', image: undefined, error: { code: 'state-of-another-node', message: 'no' } };
    const settings = { faults: 3, node: undefined, pbsBinPath: undefined };
    await noteFault({ ...options, settings }, fault);
    expect(calls).toEqual([['-o', '-N', expect.stringContaining('belongs to wn2'), 'wn1']]);
    await noteFault({ ...options, settings: { ...settings, faults: 0 } }, fault);
    expect(calls).toHaveLength(1);
  });
});
