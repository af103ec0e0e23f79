import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { answerCall } from '../../../src/guest/peer-answers.ts';
import {
  type Call,
  callPeers,
  dismissPeers,
  guestNodeFile,
  nodesOf,
  parseRank,
  peersDirectory,
  preparePeers,
  waitForAnswers,
  waitForCall,
  whilePeersFare,
} from '../../../src/guest/peers.ts';

const SELF = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const CALL: Call = { version: 1, jobId: '7.test', nonce: 'n1', count: 3, directives: '#VMBATCH image=demo' };
const NODES = ['wn1', 'wn2', 'wn3'];

let folder: string;
let place: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmbatch-peers-'));
  place = peersDirectory(folder, '7.test');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const waiting = (changes: { deadlineMs?: number; uid?: number; signal?: AbortSignal } = {}) => ({
  guard: { exists: async (path: string) => existsSync(path) },
  uid: SELF.uid,
  deadlineMs: 700,
  signal: new AbortController().signal,
  ...changes,
});
const answer = (rank: number, hostname: string, nonce = 'n1') =>
  answerCall(place, SELF, rank, { version: 1, nonce, node: NODES[rank] ?? '?', hostname });

describe('the nodes of one job', () => {
  it('meet: the first says what is wanted, the others that their guests are ready', async () => {
    await preparePeers(place, SELF);
    const called = waitForCall(place, '7.test', waiting({ deadlineMs: 10_000 }));
    await callPeers(place, SELF, CALL);
    expect(await called).toEqual(CALL);
    const answers = waitForAnswers(place, CALL, NODES, waiting({ deadlineMs: 10_000 }));
    await answer(2, 'guest-c');
    await answer(1, 'guest-b');
    expect((await answers).slice(1)).toEqual(['guest-b', 'guest-c']);
    await dismissPeers(place, SELF);
    expect(existsSync(place)).toBe(false);
  });

  it('do not take what an earlier start of the job, or another job, has left', async () => {
    await preparePeers(place, SELF);
    await callPeers(place, SELF, { ...CALL, jobId: '8.test' });
    await expect(waitForCall(place, '7.test', waiting())).rejects.toMatchObject({ code: 'peer-silent' });
    await answer(1, 'guest-b', 'n0');
    await answer(2, 'guest-c');
    await expect(waitForAnswers(place, CALL, NODES, waiting())).rejects.toMatchObject({
      code: 'peer-silent',
      message: 'no word of a guest on wn2 within 1 s',
    });
    await callPeers(place, SELF, CALL);
    expect(existsSync(join(place, 'answer-2.json'))).toBe(false);
  });

  it('tell the first node why a guest failed, in one line', async () => {
    await callPeers(place, SELF, CALL);
    await answerCall(place, SELF, 2, {
      version: 1,
      nonce: 'n1',
      node: 'wn3',
      error: 'no room\n\u001b[31mleft',
    });
    await expect(waitForAnswers(place, CALL, NODES, waiting())).rejects.toMatchObject({
      fault: 'node',
      code: 'peer-failed',
      message: expect.stringMatching(/^the guest on node wn3 failed: no room[ -~¦]*left$/),
    });
  });

  it.each([
    ['text that is no JSON', 'x'],
    ['a host name with a blank', JSON.stringify({ version: 1, nonce: 'n1', node: 'wn2', hostname: 'a b' })],
    ['another version', JSON.stringify({ version: 2, nonce: 'n1', node: 'wn2', hostname: 'a' })],
  ])('pass over %s', async (_name, text) => {
    await callPeers(place, SELF, CALL);
    await answer(2, 'guest-c');
    writeFileSync(join(place, 'answer-1.json'), text);
    await expect(waitForAnswers(place, CALL, NODES, waiting())).rejects.toMatchObject({
      code: 'peer-silent',
    });
  });

  it("refuse a link, a file that is too long, and another user's", async () => {
    await callPeers(place, SELF, CALL);
    writeFileSync(join(folder, 'call'), JSON.stringify(CALL));
    rmSync(join(place, 'call.json'));
    symlinkSync(join(folder, 'call'), join(place, 'call.json'));
    await expect(waitForCall(place, '7.test', waiting())).rejects.toThrow('is a symbolic link');
    rmSync(join(place, 'call.json'));
    writeFileSync(join(place, 'call.json'), ' '.repeat(200_000));
    await expect(waitForCall(place, '7.test', waiting())).rejects.toThrow('at most');
    await callPeers(place, SELF, CALL);
    await expect(waitForCall(place, '7.test', waiting({ uid: SELF.uid + 1 }))).rejects.toThrow(
      'must belong to uid',
    );
  });

  it('end what the first node waits for when a guest fails elsewhere, and nothing else does', async () => {
    await callPeers(place, SELF, CALL);
    const listening = waiting();
    const forEver = (signal: AbortSignal) =>
      new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    await answer(1, 'guest-b');
    expect(await whilePeersFare(place, CALL, NODES, listening, async () => 'ready')).toBe('ready');
    await expect(
      whilePeersFare(place, CALL, NODES, listening, () => Promise.reject(new Error('own'))),
    ).rejects.toThrow('own');
    const over = new AbortController();
    const deleted = whilePeersFare(place, CALL, NODES, waiting({ signal: over.signal }), forEver);
    over.abort(new Error('deleted'));
    await expect(deleted).rejects.toThrow('deleted');
    const first = whilePeersFare(place, CALL, NODES, listening, forEver);
    const begun = performance.now();
    const answered = answerCall(place, SELF, 2, {
      version: 1,
      nonce: 'n1',
      node: 'wn3',
      error: 'no bridge br0',
    });
    await expect(first).rejects.toMatchObject({
      code: 'peer-failed',
      message: 'the guest on node wn3 failed: no bridge br0',
    });
    expect(performance.now() - begun).toBeLessThan(5_000);
    await answered;
  });

  it('stop waiting when the job is over', async () => {
    const over = new AbortController();
    const waited = waitForCall(place, '7.test', waiting({ signal: over.signal, deadlineMs: 60_000 }));
    over.abort(new Error('over'));
    await expect(waited).rejects.toThrow('over');
  });

  it('are counted from the node file, and the file in the guests names guests as often', () => {
    const { names, slots } = nodesOf('wn2\nwn2\nwn1\nwn2\n\n');
    expect([names, slots]).toEqual([
      ['wn2', 'wn1'],
      [3, 1],
    ]);
    expect(guestNodeFile(['a', 'b'], slots)).toBe('a\na\na\nb\n');
  });

  it('know which they are from TORQUE alone', () => {
    expect(parseRank('3')).toBe(3);
    for (const text of [undefined, '', '0', '-1', '1x', '123456'])
      expect(() => parseRank(text)).toThrow('PBS_NODENUM');
  });

  it('see that the first node has given the job up, but not in the moment in which they make their place', async () => {
    await preparePeers(place, SELF);
    const waited = waitForCall(place, '7.test', waiting({ deadlineMs: 60_000 }));
    await preparePeers(place, SELF);
    await dismissPeers(place, SELF);
    setTimeout(() => preparePeers(place, SELF), 500);
    setTimeout(() => callPeers(place, SELF, CALL), 1000);
    expect(await waited).toEqual(CALL);
    expect(JSON.parse(readFileSync(join(place, 'call.json'), 'utf8'))).toEqual(CALL);
    await dismissPeers(place, SELF);
    await expect(waitForCall(place, '7.test', waiting({ deadlineMs: 60_000 }))).rejects.toMatchObject({
      fault: 'job',
      code: 'job-deleted',
    });
  });
});
