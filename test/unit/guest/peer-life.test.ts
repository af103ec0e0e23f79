import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'esbuild';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { answerCall, lookAtPeers, UNCALLED } from '../../../src/guest/peer-answers.ts';
import { LifeWatch, lifeFile, startHeartbeat } from '../../../src/guest/peer-life.ts';
import {
  type Call,
  callPeers,
  peersDirectory,
  preparePeers,
  waitForAnswers,
} from '../../../src/guest/peers.ts';

const SELF = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const CALL: Call = { version: 1, jobId: '7.test', nonce: 'n1', count: 2, directives: '' };
const NODES = ['wn1', 'wn2'];
/** A first node whose clock runs so much faster sees in seconds what takes half a minute. */
const HURRY = 10;

let folder: string;
let place: string;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vmbatch-life-'));
  place = peersDirectory(folder, '7.test');
  await preparePeers(place, SELF);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const waiting = (life: LifeWatch, deadlineMs: number) => ({
  guard: { exists: async (path: string) => existsSync(path) },
  ...{ uid: SELF.uid, deadlineMs, life, signal: new AbortController().signal },
});
const hurried = () => new LifeWatch(() => performance.now() * HURRY);
const beats = () => Number(readFileSync(lifeFile(place, 1), 'utf8'));

/** Looks once in two seconds of a made-up clock.
 * @returns for how long the node is silent when it is called dead; undefined: it never is */
function watch(seconds: number, signAt: (second: number) => string | undefined, expected = false) {
  let now = 0;
  const life = new LifeWatch(() => now);
  if (expected) life.expect(1);
  for (let second = 2; second <= seconds; second += 2) {
    now = second * 1000;
    const sign = signAt(second);
    if (sign !== undefined) life.note(1, sign);
    life.looked();
    if (life.silentFor(1) !== undefined) return second;
  }
  return undefined;
}

describe('a node that starts a guest of a job on several', () => {
  it('is called dead half a minute after its last sign of life', () => {
    expect(watch(600, (second) => String(Math.min(second, 20)))).toBe(52);
  });

  it.each([
    ['gives signs all the time', (second: number) => String(second)],
    ['shows them once a minute, as a mount with actimeo=60 does', (second: number) => `${(second / 60) | 0}`],
    [
      'stalls for 28 s now and then',
      (second: number) => (second % 40 < 28 ? `${(second / 40) | 0}` : `${second}`),
    ],
    ['has a vmbatch that gives none', () => undefined],
  ])('is never called dead while it %s', (_name, signAt) => {
    expect(watch(3600, signAt)).toBeUndefined();
  });

  it('is called dead later where the mount shows changes late', () => {
    expect(watch(3600, (second) => `${(Math.min(second, 120) / 60) | 0}`)).toBe(120 + 242);
  });

  it('that gave one sign, or one before it was called, gets two minutes for the next', () => {
    expect(watch(600, () => 'same')).toBe(124);
    expect(watch(600, () => undefined, true)).toBe(122);
  });

  it('is not judged by the time in which the first node or its share stalled', () => {
    let now = 0;
    const life = new LifeWatch(() => now);
    for (let second = 2; second <= 10; second += 2) {
      now = second * 1000;
      life.note(1, String(second));
      life.looked();
    }
    now = 70_000;
    life.note(1, '10');
    life.looked();
    expect(life.silentFor(1)).toBeUndefined();
    now = 99_000;
    expect(life.silentFor(1)).toBeUndefined();
    now = 101_000;
    expect(life.silentFor(1)).toBe(31_000);
  });

  it('gives signs until it has answered, also when the place is made anew', async () => {
    const heartbeat = startHeartbeat(place, SELF, 1);
    await expect.poll(beats, { timeout: 5_000 }).toBe(1);
    await callPeers(place, SELF, CALL);
    await expect.poll(() => existsSync(lifeFile(place, 1)), { timeout: 5_000 }).toBe(true);
    const answer = { version: 1 as const, nonce: 'n1', node: 'wn2', hostname: 'vm2' };
    await answerCall(place, SELF, 1, answer, heartbeat);
    const { mtimeMs } = statSync(lifeFile(place, 1));
    await sleep(2_500);
    expect(statSync(lifeFile(place, 1)).mtimeMs).toBe(mtimeMs);
    // A mount that hid the answer's own name would show it here.
    rmSync(join(place, 'answer-1.json'));
    expect(await waitForAnswers(place, CALL, NODES, waiting(new LifeWatch(), 10_000))).toEqual([
      ...[undefined, 'vm2'],
    ]);
  });

  it('ends its signs when it is killed, and the first node says where to look', async () => {
    await callPeers(place, SELF, CALL);
    const bundle = join(folder, 'node.cjs');
    await build({
      stdin: {
        contents: `import { startHeartbeat } from './peer-life.ts';
startHeartbeat(${JSON.stringify(place)}, ${JSON.stringify(SELF)}, 1); setInterval(() => 0, 1000);`,
        resolveDir: join(import.meta.dirname, '../../../src/guest'),
        loader: 'ts',
      },
      ...{ bundle: true, platform: 'node', format: 'cjs', outfile: bundle, logLevel: 'error' },
      external: ['*bundled-helper.mjs'],
    });
    const other = spawn(process.execPath, [bundle], { stdio: 'ignore' });
    try {
      const begun = performance.now();
      const answers = waitForAnswers(place, CALL, NODES, waiting(hurried(), 60_000));
      setTimeout(() => other.kill('SIGKILL'), 3_000);
      await expect(answers).rejects.toMatchObject({
        ...{ fault: 'node', code: 'peer-silent' },
        message: expect.stringMatching(
          /^node wn2 has given no sign of life for \d+ s while it started its guest$/,
        ),
        hint: expect.stringContaining('vmbatch.log on wn2'),
      });
      expect(performance.now() - begun).toBeGreaterThan(3_000);
      const last = beats();
      await sleep(2_500);
      expect(beats()).toBe(last);
    } finally {
      if (other.exitCode === null && other.signalCode === null) {
        other.kill('SIGKILL');
        await once(other, 'exit');
      }
    }
  }, 40_000);

  it('that failed before it was called is known to have failed when the first node comes', async () => {
    const answer = { version: 1 as const, nonce: UNCALLED, node: 'wn2', error: 'it was told to end' };
    await answerCall(place, SELF, 1, answer);
    await expect(lookAtPeers(place, CALL, NODES, waiting(new LifeWatch(), 1))).rejects.toMatchObject({
      code: 'peer-failed',
      message: 'the guest on node wn2 failed: it was told to end',
    });
    await expect(waitForAnswers(place, CALL, NODES, waiting(new LifeWatch(), 5_000))).rejects.toMatchObject({
      code: 'peer-failed',
    });
  });
});
