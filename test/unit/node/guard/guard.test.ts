// The black-hole guard: what counts, when the node goes offline, and how it comes back.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { followUp } from '../../../../src/node/guard/follow-up.ts';
import { bringBack, takeOffline } from '../../../../src/node/guard/offline.ts';
import { hasGuardState, readGuard } from '../../../../src/node/guard/state.ts';
import { noteFault, noteSuccess } from '../../../../src/node/guard/watch.ts';
import type { Log } from '../../../../src/util/log.ts';
import type { Run } from '../../../../src/util/processes/run.ts';

let state: string;
let calls: string[][];
let logged: string[];
let refusal: string | undefined;

beforeEach(() => {
  state = mkdtempSync(join(tmpdir(), 'vmbatch-guard-'));
  [calls, logged, refusal] = [[], [], undefined];
});
afterEach(() => rmSync(state, { recursive: true, force: true }));

const run: Run = async (file, args) => {
  calls.push([file, ...args]);
  const ended = { signal: undefined, timedOut: false, cancelled: false, notFound: false, seconds: 0 };
  return {
    command: file,
    exitCode: refusal === undefined ? 0 : 159,
    stdout: '',
    stderr: refusal ?? '',
    ...ended,
  };
};
const log: Log = {
  write: (level, message) => logged.push(`${level}: ${message}`),
  close: async () => undefined,
};

const fault = (
  jobId: string,
  code = 'hypervisor-unreachable',
  image: string | undefined = 'demo',
  images = 2,
) =>
  noteFault(
    {
      state,
      settings: { faults: 3, node: undefined, pbsBinPath: '/opt/torque/bin' },
      images,
      node: 'wn1',
      run,
      log,
    },
    { jobId, image, error: { code, message: `${code} of ${jobId}` } },
  );
const options = () => ({ state, node: undefined, pbsBinPath: undefined, folders: [join(state, 'bin')], run });
const settings = {
  faults: 3,
  comeBack: 'self-test' as const,
  selfTestMs: 0,
  user: 'nobody',
  node: undefined,
  pbsBinPath: undefined,
};

describe('faults in a row', () => {
  it('of three jobs take the node offline, with a reason, once', async () => {
    await fault('1.x');
    await fault('2.x');
    expect(calls).toEqual([]);
    await fault('3.x');
    const note = 'vmbatch: 3 jobs in a row failed on this node: hypervisor-unreachable';
    expect(calls).toEqual([['/opt/torque/bin/pbsnodes', '-o', '-N', note, 'wn1']]);
    expect(logged).toEqual([expect.stringMatching(/^error: this node is taken offline: 3 jobs in a row/)]);
    expect(readGuard(state)).toMatchObject({ node: 'wn1', offline: { by: 'guard', mark: 'set' } });
    await fault('4.x');
    expect(calls).toHaveLength(1);
  });

  it.each([
    ['one job that comes again and again', ['1.x', '1.x', '1.x', '1.x'], 'hypervisor-unreachable'],
    ['nodes that are busy', ['1.x', '2.x', '3.x', '4.x'], 'starts-busy'],
    ['another node of the job', ['1.x', '2.x', '3.x'], 'peer-failed'],
    ['one image among several', ['1.x', '2.x', '3.x', '4.x'], 'image-absent'],
    ['guests of one image that do not come up', ['1.x', '2.x', '3.x', '4.x'], 'guest-not-ready'],
  ])('do not, if they are those of %s', async (_what, jobs, code) => {
    for (const job of jobs) await fault(job, code);
    expect(calls).toEqual([]);
  });

  it('do if guests of several images do not come up, or of the only one', async () => {
    await fault('1.x', 'guest-not-ready', 'a');
    await fault('2.x', 'guest-not-ready', 'b');
    await fault('3.x', 'guest-not-ready', 'c');
    expect(calls).toHaveLength(1);
    await bringBack(options());
    calls = [];
    for (const job of ['1.x', '2.x', '3.x']) await fault(job, 'guest-not-ready', 'demo', 1);
    expect(calls).toHaveLength(1);
  });

  it('are forgotten when a guest starts', async () => {
    await noteSuccess({ state, log });
    expect(hasGuardState(state)).toBe(false);
    await fault('1.x');
    await fault('2.x');
    await noteSuccess({ state, log });
    await fault('3.x');
    expect(readGuard(state).faults.map(({ jobId }) => jobId)).toEqual(['3.x']);
    expect(calls).toEqual([]);
  });

  it('fail no hook when they cannot be written down', async () => {
    await fault('1.x');
    // In the place of what is renamed to the file.
    mkdirSync(join(state, `guard.json.${process.pid}.tmp`));
    await noteSuccess({ state, log });
    await fault('2.x');
    expect(logged).toEqual([expect.stringMatching(/^error: the guard failed/), expect.anything()]);
  });

  it('are all counted when they come at the same time', async () => {
    await Promise.all(Array.from({ length: 8 }, (_, number) => fault(`${number}.x`, 'starts-failed')));
    expect(readGuard(state).faults).toHaveLength(8);
    expect(readGuard(state).offline?.mark).toBe('set');
  });

  it('do nothing where the guard is off, and a broken file of its own does not stop it', async () => {
    writeFileSync(join(state, 'guard.json'), '{"version": 7');
    for (const job of ['1.x', '2.x', '3.x']) await fault(job);
    expect(calls).toHaveLength(1);
  });
});

describe('a node that is offline', () => {
  it('is asked for again as long as TORQUE does not let us, and health says so meanwhile', async () => {
    refusal = 'pbsnodes: Unauthorized Request';
    for (const job of ['1.x', '2.x', '3.x']) await fault(job);
    expect(logged).toEqual([
      expect.stringMatching(/^error: this node should be offline, and TORQUE did not let us/),
    ]);
    expect(readGuard(state).offline).toMatchObject({
      mark: 'refused',
      problem: expect.stringContaining('Unauthorized Request'),
    });
    refusal = undefined;
    expect(await followUp(options(), settings, async () => 1, log)).toMatch(/^the node is offline/);
    expect(readGuard(state).offline?.mark).toBe('set');
    expect(readGuard(state).offline).not.toHaveProperty('problem');
  });

  it('comes back by hand, with its faults forgotten', async () => {
    for (const job of ['1.x', '2.x', '3.x']) await fault(job);
    calls = [];
    expect(await bringBack(options())).toBeUndefined();
    expect(calls).toEqual([['pbsnodes', '-c', '-N', '', 'wn1']]);
    expect(readGuard(state)).toEqual({ version: 1, faults: [], node: 'wn1' });
  });

  it('is named to the pbsnodes that is found in the folders that are looked at', async () => {
    const bin = join(state, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'pbsnodes'), '', { mode: 0o755 });
    await takeOffline(options(), 'a new disk', 'admin');
    expect(calls.map(([file]) => file)).toEqual([join(bin, 'pbsnodes')]);
  });

  it('comes back when the guest of a self-test starts, and stays when it does not', async () => {
    for (const job of ['1.x', '2.x', '3.x']) await fault(job);
    const fails = () => Promise.reject(new Error('no guest'));
    expect(await followUp(options(), settings, fails, log)).toMatch(/the self-test failed.*no guest/);
    expect(readGuard(state)).toMatchObject({
      offline: { mark: 'set' },
      selfTest: { problem: expect.any(String) },
    });
    const later = { ...settings, selfTestMs: 60_000 };
    expect(await followUp(options(), later, async () => 1, log)).toBeUndefined();
    expect(await followUp(options(), settings, async () => 4.2, log)).toBe(
      'a guest started in 4.2 s: the node comes back',
    );
    expect(readGuard(state).offline).toBeUndefined();
  });

  it('stays offline where an admin did it, or where only an admin may bring it back', async () => {
    await takeOffline(options(), 'a new disk', 'admin');
    expect(calls).toEqual([['pbsnodes', '-o', '-N', 'vmbatch: a new disk', hostname()]]);
    expect(await followUp(options(), settings, async () => 1, log)).toBeUndefined();
    await bringBack(options());
    for (const job of ['1.x', '2.x', '3.x']) await fault(job);
    const manual = { ...settings, comeBack: 'manual' as const };
    expect(await followUp(options(), manual, async () => 1, log)).toBeUndefined();
    expect(readGuard(state).offline?.mark).toBe('set');
  });

  it.each(['setting', 'clearing'] as const)(
    'is followed up after a process was killed while it was %s',
    async (mark) => {
      await takeOffline(options(), 'reason', 'guard');
      const guard = readGuard(state);
      writeFileSync(
        join(state, 'guard.json'),
        JSON.stringify({ ...guard, offline: { ...guard.offline, mark } }),
      );
      calls = [];
      await followUp(options(), settings, async () => 1, log);
      expect(calls.map((call) => call[1])).toEqual([mark === 'setting' ? '-o' : '-c']);
      expect(readGuard(state).offline?.mark).toBe(mark === 'setting' ? 'set' : undefined);
    },
  );
});
