import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { thisProcess } from '../../../../src/hypervisor/guest-process.ts';
import { lackOfRoom } from '../../../../src/node/admission/memory-and-load.ts';
import { awaitTurn, ticketName } from '../../../../src/node/admission/turn.ts';
import { beginRecord, type JobRecord, jobPaths, prepareState } from '../../../../src/node/record.ts';

const MIB = 1024 ** 2;
let state: string;

beforeEach(() => {
  state = mkdtempSync(join(tmpdir(), 'vmbatch-room-'));
  prepareState(state);
});
afterEach(() => rmSync(state, { recursive: true, force: true }));

const machine = (mib: number, load = 0) => ({
  meminfo: () => `MemTotal: 99 kB\nMemAvailable:   ${mib * 1024} kB\n`,
  loadavg: () => `${load} 0.52 0.50 1/469 12345\n`,
  processors: 4,
});
const lack = (
  needMiB: number,
  on: ReturnType<typeof machine>,
  limits: { floor?: number; maxLoad?: number } = {},
) =>
  lackOfRoom(
    state,
    '1.test',
    needMiB * MIB,
    { memoryFloorBytes: (limits.floor ?? 100) * MIB, maxLoad: limits.maxLoad },
    on,
  );

function other(jobId: string, memoryMiB: number, steps: JobRecord['steps']): void {
  beginRecord(jobPaths(state, jobId), {
    ...{ version: 1, jobId, user: 'u', uid: 1, gid: 1, queue: 'q', uri: 'qemu:///system', undoMs: 1 },
    ...{
      debug: { keepMs: 0, consoles: 0 },
      domain: `vmbatch-${jobId}`,
      nonce: 'n',
      readyFile: '/r',
      startedAt: 1,
    },
    ...{ prologue: { pid: 1, startTicks: 1 }, steps, seconds: {} },
    request: { image: 'demo', vcpus: 1, memoryBytes: memoryMiB * MIB },
  });
}

describe('room for a guest', () => {
  it('is what is available, less what is to stay free', () => {
    expect(lack(400, machine(500))).toBeUndefined();
    expect(lack(401, machine(500))).toMatch(
      /^500 MiB of memory are free.*takes 401 MiB, and 100 MiB are to stay free/,
    );
    expect(lack(401, machine(500), { floor: 0 })).toBeUndefined();
  });

  it('counts the memory of guests that have not taken it yet', () => {
    other('2.test', 200, { domain: 'held' });
    other('3.test', 300, { overlay: 'held' });
    expect(lack(200, machine(500))).toBeUndefined();
    expect(lack(201, machine(500))).toContain('other guests may still take 200 MiB');
  });

  it('counts a guest whose turn has come but that has no domain yet', async () => {
    other('3.test', 300, { overlay: 'held', turn: 'acquiring' });
    expect(lack(200, machine(500))).toBeUndefined();
    await awaitTurn(state, ticketName('3.test'), {
      limit: 1,
      self: thisProcess(),
      deadlineMs: 1000,
      signal: new AbortController().signal,
    });
    expect(lack(200, machine(500))).toContain('may still take 300 MiB');
  });

  it('is refused above the load that is allowed for each processor', () => {
    expect(lack(1, machine(500, 6), { maxLoad: 1.5 })).toBeUndefined();
    expect(lack(1, machine(500, 6.1), { maxLoad: 1.5 })).toBe(
      'the load is 6.1, and guests start up to 6 (max_load)',
    );
  });

  it('is taken for granted where the machine does not say how much memory is available', () => {
    expect(lack(1e6, { ...machine(1), meminfo: () => 'MemTotal: 5 kB\n' })).toBeUndefined();
  });
});
