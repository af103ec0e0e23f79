// Scratch disks, cache disks that go from guest to guest, and the room for all of them.
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  cacheDiskPath,
  dropIdleCacheDisks,
  leaseCacheDisk,
  listCacheDisks,
  releaseCacheDisk,
} from '../../../../src/guest/disk/cache.ts';
import { createSparseFile } from '../../../../src/guest/disk/scratch.ts';
import { type Reservation, type SpaceRequest, waitForSpace } from '../../../../src/guest/disk/space.ts';
import { takeLease } from '../../../../src/guest/network/lease.ts';
import { bundleProgram, runAtOnce, WAIT_FOR_START } from '../../../support/bundled.ts';

const MIB = 1024 ** 2;
let state: string;
let leases: string;
beforeEach(() => {
  state = mkdtempSync(join(tmpdir(), 'vmbatch-disks-'));
  leases = join(state, 'leases');
  mkdirSync(leases);
});
afterEach(() => rmSync(state, { recursive: true, force: true }));

const ALICE = 5001;
const lease = (jobId: string, bytes = 64 * MIB, image = 'demo', account = ALICE) =>
  leaseCacheDisk({ state, leases, image, account, bytes, jobId }, () => undefined).slot;
const release = (slot: number, jobId: string, account = ALICE) =>
  releaseCacheDisk(leases, { image: 'demo', account, slot }, jobId);
const disk = (slot: number, account = ALICE) => cacheDiskPath(state, { image: 'demo', account, slot });

describe('createSparseFile', () => {
  it('makes a file of the size that occupies nothing, for root alone', () => {
    const path = join(state, 'scratch.raw');
    createSparseFile(path, 5 * 1024 * MIB);
    expect(statSync(path)).toMatchObject({ size: 5 * 1024 * MIB, blocks: 0 });
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('is a fault of the node where it cannot be made', () => {
    expect(() => createSparseFile(join(state, 'no/such'), 1)).toThrow(/no disk of 1 bytes .*ENOENT/);
  });
});

describe('leaseCacheDisk', () => {
  it('gives guests that run side by side a disk each, and the next guest the first that is free', () => {
    expect([lease('1.s'), lease('2.s'), lease('3.s')]).toEqual([0, 1, 2]);
    release(1, '2.s');
    expect(lease('4.s')).toBe(1);
    expect(
      listCacheDisks(state, leases)
        .map(({ jobId }) => jobId)
        .sort(),
    ).toEqual(['1.s', '3.s', '4.s']);
  });

  it('keeps what is on a disk for eight guests one after the other', () => {
    lease('0.s');
    release(0, '0.s');
    execFileSync('mke2fs', ['-q', '-F', '-t', 'ext4', disk(0)], { stdio: 'ignore' });
    const before = readFileSync(disk(0));
    for (let guest = 1; guest <= 8; guest++) {
      expect(lease(`${guest}.s`)).toBe(0);
      release(0, `${guest}.s`);
    }
    expect(readFileSync(disk(0)).equals(before)).toBe(true);
  });

  it('gives no account a disk that another has had', () => {
    lease('1.s');
    release(0, '1.s');
    const BOB = 5002;
    expect(lease('2.s', 64 * MIB, 'demo', BOB)).toBe(0);
    expect(disk(0, BOB)).not.toBe(disk(0));
    expect(statSync(disk(0, BOB)).blocks).toBe(0);
    release(0, '2.s', BOB);
    expect(lease('3.s')).toBe(0);
  });

  it('removes the disks of older versions, which all accounts had, unless a guest has one still', () => {
    lease('1.s');
    const [idle, used] = ['demo-0', 'demo-1'].map((name) => join(state, 'cache', `${name}.raw`));
    for (const path of [idle, used]) createSparseFile(path ?? '', 64 * MIB);
    takeLease(leases, 'cache-demo-1', '9.s');
    lease('2.s');
    expect([idle, used, disk(0)].map((path) => existsSync(path ?? ''))).toEqual([false, true, true]);
    releaseCacheDisk(leases, { image: 'demo', account: undefined, slot: 1 }, '9.s');
    lease('3.s');
    expect(existsSync(used ?? '')).toBe(false);
  });

  it('gives up the disks that no guest has, the one unused for longest first, until there is room', () => {
    for (const [account, time] of [
      [1, 30],
      [2, 10],
      [3, 20],
    ] as const) {
      lease(`${account}.s`, 64 * MIB, 'demo', account);
      release(0, `${account}.s`, account);
      utimesSync(disk(0, account), time, time);
    }
    lease('4.s');
    let needed = 2;
    expect(dropIdleCacheDisks(state, leases, () => needed-- <= 0)).toEqual([disk(0, 2), disk(0, 3)]);
    expect(dropIdleCacheDisks(state, leases, () => false)).toEqual([disk(0, 1)]);
    expect(existsSync(disk(0))).toBe(true);
    expect(readdirSync(leases)).toEqual([`cache-demo@${ALICE}-0`]);
  });

  it('keeps the disks of images apart', () => {
    expect([lease('1.s'), lease('2.s', 64 * MIB, 'other')]).toEqual([0, 0]);
  });

  it.each([
    ['is not the size that it should be', () => createSparseFile(disk(0), 65 * MIB)],
    [
      'holds something else than a guest would put there',
      () => writeFileSync(disk(0), Buffer.alloc(64 * MIB, 1), { mode: 0o600 }),
    ],
    ['others may read', () => chmodSync(disk(0), 0o644)],
    [
      'has become a link',
      () => {
        rmSync(disk(0));
        symlinkSync('/etc/passwd', disk(0));
      },
    ],
  ])('makes a disk anew that %s', (_what, spoil) => {
    lease('1.s');
    release(0, '1.s');
    spoil();
    lease('2.s');
    expect(statSync(disk(0))).toMatchObject({ size: 64 * MIB, blocks: 0 });
    expect(statSync(disk(0)).mode & 0o777).toBe(0o600);
    expect(readFileSync('/etc/passwd', 'utf8')).not.toBe('');
  });

  it('does not give away a disk that some guest still has, although its lock is gone', async () => {
    lease('1.s');
    release(0, '1.s');
    const guest = spawn('sleep', ['60'], { argv0: `qemu -blockdev filename=${disk(0)}` });
    await new Promise((resolve) => guest.once('spawn', resolve));
    expect(lease('2.s')).toBe(1);
    guest.kill();
  });

  it('never gives one disk to two of 16 processes that start at once', async () => {
    const program = join(state, 'program.cjs');
    bundleProgram(
      `${WAIT_FOR_START}
      import { leaseCacheDisk } from './cache.ts';
      const [state, leases, jobId] = process.argv.slice(2);
      console.log(leaseCacheDisk({ state, leases, image: 'demo', account: 1, bytes: 65536, jobId }, () => {}).slot);`,
      join(import.meta.dirname, '../../../../src/guest/disk'),
      program,
    );
    const got = await runAtOnce(program, (index) => [state, leases, `${index}.s`], 16);
    expect(got.map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 16 }, (_, slot) => slot));
  }, 60_000);
});

describe('waitForSpace', () => {
  const other = (jobId: string, mebibytes: number, since: number, granted = false): Reservation => {
    const directory = join(state, jobId);
    mkdirSync(directory, { recursive: true });
    return { jobId, bytes: mebibytes * MIB, directory, since, granted };
  };
  const wait = (changes: Partial<SpaceRequest>) =>
    waitForSpace({
      directory: state,
      jobId: '5.s',
      needBytes: 100 * MIB,
      floorBytes: 1024 * MIB,
      since: 50,
      others: () => [],
      grant: () => undefined,
      waitMs: 0,
      signal: new AbortController().signal,
      freeBytes: () => 2000 * MIB,
      intervalMs: 5,
      ...changes,
    });

  it('lets a job start for which there is room', async () => {
    await expect(wait({})).resolves.toBeUndefined();
  });

  it('counts what earlier guests may still need, and says so', async () => {
    await expect(wait({ others: () => [other('1.s', 500, 1), other('2.s', 400, 2)] })).rejects.toMatchObject({
      fault: 'node',
      code: 'disk-full',
      message: expect.stringMatching(
        /has 2000 MiB free, of which 2 other guests may still need 900 MiB; this guest needs 100 MiB, and 1 GiB are to stay free/,
      ),
    });
  });

  it('does not count what their disks occupy already', async () => {
    const first = other('1.s', 900, 1);
    writeFileSync(join(first.directory, 'overlay.qcow2'), Buffer.alloc(40 * MIB, 1));
    await expect(wait({ others: () => [first] })).resolves.toBeUndefined();
  });

  it('lets the earlier of two that ask at the same moment start, and the later one wait', async () => {
    const [early, late] = [other('1.s', 900, 10), other('2.s', 900, 20)];
    const ask = (own: Reservation, rest: Reservation) =>
      wait({ jobId: own.jobId, since: own.since, needBytes: own.bytes, others: () => [rest] });
    await expect(ask(early, late)).resolves.toBeUndefined();
    await expect(ask(late, early)).rejects.toMatchObject({ code: 'disk-full' });
  });

  it('counts a guest that was let in, also one that asked later', async () => {
    await expect(wait({ others: () => [other('9.s', 900, 99, true)] })).rejects.toMatchObject({
      code: 'disk-full',
    });
  });

  it('withdraws if somebody earlier appears between its look and its grant', async () => {
    const grants: boolean[] = [];
    let looks = 0;
    const others = () => (looks++ === 0 ? [] : [other('1.s', 900, 1)]);
    await expect(wait({ others, grant: (granted) => grants.push(granted) })).rejects.toMatchObject({
      code: 'disk-full',
    });
    expect(grants).toEqual([true, false]);
  });

  it('never lets in more of ten that ask at once than there is room for, whatever the order of their looks', async () => {
    const reservations: Reservation[] = [];
    const ask = async (index: number) => {
      const own = other(`${index}.s`, 300, 100 - index);
      reservations.push(own);
      await wait({
        jobId: own.jobId,
        since: own.since,
        needBytes: own.bytes,
        others: () => reservations.filter((entry) => entry !== own),
        grant: (granted) => {
          own.granted = granted;
        },
        waitMs: 200,
      });
      return own.jobId;
    };
    const results = await Promise.allSettled(Array.from({ length: 10 }, (_, index) => ask(index)));
    // 2000 MiB less the floor of 1024 hold three of 300.
    expect(results.filter(({ status }) => status === 'fulfilled').length).toBe(3);
  });

  it('gives up what nobody needs before it waits', async () => {
    let free = 0;
    const makeRoom = (enough: () => boolean) => {
      while (!enough()) free += 500 * MIB;
    };
    await expect(wait({ freeBytes: () => free, makeRoom })).resolves.toBeUndefined();
    expect(free).toBe(1500 * MIB);
  });

  it('starts a job as soon as there is room, within the time that it may wait', async () => {
    let looks = 0;
    await wait({ waitMs: 5_000, freeBytes: () => (looks++ < 3 ? 0 : 2000 * MIB) });
    expect(looks).toBeGreaterThanOrEqual(4);
  });

  it('stops waiting when the job is over', async () => {
    const over = new AbortController();
    const waiting = wait({ waitMs: 60_000, freeBytes: () => 0, signal: over.signal });
    over.abort(new Error('over'));
    await expect(waiting).rejects.toThrow('over');
  });
});
