import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startTicksOf } from '../../../../src/hypervisor/guest-process.ts';
import { awaitTurn, endTurn, ticketName } from '../../../../src/node/admission/turn.ts';

let state: string;

beforeEach(() => {
  state = mkdtempSync(join(tmpdir(), 'vmbatch-turn-'));
});
afterEach(() => rmSync(state, { recursive: true, force: true }));

const processOf = (pid: number) => ({ pid, startTicks: startTicksOf(pid) ?? 0 });
const SELF = processOf(process.pid);
const waits = (ticket: string, changes: Partial<Parameters<typeof awaitTurn>[2]> = {}) =>
  awaitTurn(state, ticket, {
    ...{ limit: 2, self: SELF, deadlineMs: 10_000, signal: new AbortController().signal },
    ...changes,
  });
const tickets = [1, 2, 3, 4].map((second) => ticketName(`${second}.test`, second * 1000));
const [first = '', second = '', third = '', fourth = ''] = tickets;

describe('the turn to boot', () => {
  it('comes in the order of the tickets, so many at a time', async () => {
    const order: string[] = [];
    const begun = async (ticket: string) => {
      await waits(ticket);
      order.push(ticket);
    };
    await begun(first);
    await begun(second);
    const late = [begun(fourth), begun(third)];
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(order).toEqual([first, second]);
    endTurn(state, first);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(order).toEqual([first, second, third]);
    endTurn(state, third);
    await Promise.all(late);
    expect(order).toEqual([first, second, third, fourth]);
    for (const ticket of tickets) endTurn(state, ticket);
    endTurn(state, first);
    expect(readdirSync(join(state, 'starts'))).toEqual([]);
  });

  it('is nobody’s any more whose process is gone, and what is no ticket counts for nothing', async () => {
    const child = spawn('sleep', ['60']);
    await waits(first, { self: processOf(child.pid ?? 0), limit: 1 });
    writeFileSync(join(state, 'starts', second), 'x');
    const waited = waits(third, { limit: 1 });
    child.kill('SIGKILL');
    await waited;
    expect(readdirSync(join(state, 'starts'))).toEqual([third]);
  });

  it('is given up when time is over, or when the job is', async () => {
    await waits(first, { limit: 1 });
    await expect(waits(second, { limit: 1, deadlineMs: 200 })).rejects.toMatchObject({
      fault: 'node',
      code: 'starts-busy',
    });
    const over = new AbortController();
    const waited = waits(third, { limit: 1, signal: over.signal });
    over.abort(new Error('over'));
    await expect(waited).rejects.toThrow('over');
  });

  it('waits for room, and nobody who wants less overtakes', async () => {
    let lack: string | undefined = 'no memory';
    const order: string[] = [];
    const big = waits(first, { limit: 0, lack: () => lack }).then(() => order.push('big'));
    const small = waits(second, { limit: 0, lack: () => undefined }).then(() => order.push('small'));
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(order).toEqual([]);
    lack = undefined;
    await Promise.all([big, small]);
    expect(order).toEqual(['big', 'small']);
  });

  it('is given up with the reason when there was no room', async () => {
    await expect(waits(first, { lack: () => 'the load is 9', deadlineMs: 200 })).rejects.toMatchObject({
      fault: 'node',
      code: 'no-room',
      message: expect.stringContaining('the load is 9'),
    });
  });
});
