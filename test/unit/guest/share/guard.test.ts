// A share that hangs, is gone, or answers: what whoever looks is told, and when.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkShare, openShareGuard, type ShareGuard } from '../../../../src/guest/share/guard.ts';
import { bundleProgram } from '../../../support/bundled.ts';

let directory: string;
let share: string;
let guard: ShareGuard;
let server: ChildProcess | undefined;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-share-'));
  share = join(directory, 'share');
  mkdirSync(share);
  guard = openShareGuard(`${share} (server:/export)`, 400);
});
afterEach(async () => {
  guard.close();
  if (server !== undefined) await stopServer();
  rmSync(directory, { recursive: true, force: true });
});

async function hang(): Promise<void> {
  const program = join(import.meta.dirname, '../../../support/hung-share.py');
  const child = spawn('/usr/bin/python3', [program, share], { stdio: ['pipe', 'pipe', 'inherit'] });
  server = child;
  await new Promise((resolve) => child.stdout.once('data', resolve));
}

async function stopServer(): Promise<void> {
  const child = server;
  server = undefined;
  if (child === undefined) return;
  const gone = new Promise((resolve) => child.once('close', resolve));
  child.stdin?.end();
  await gone;
}

describe('openShareGuard', () => {
  it('says what is there and what is not, of any name', async () => {
    const tricky = join(share, `a '"$(touch x)\\ b`);
    writeFileSync(tricky, '');
    expect(await guard.exists(tricky)).toBe(true);
    expect(await guard.exists(join(share, 'absent'))).toBe(false);
    expect(await guard.exists(`${share}\n${share}`)).toBe(false);
  });

  it('gives each of several looks at the same time its own answer', async () => {
    const looks = ['', 'none', '.', 'no', '..'].map((name) => guard.exists(join(share, name)));
    expect(await Promise.all(looks)).toEqual([true, false, true, false, true]);
  });

  it('takes an answer that came in time, though the program was busy itself until after the deadline', async () => {
    // The shell is there before the look that counts.
    await guard.exists(share);
    const look = guard.exists(join(share, '.'));
    await Promise.resolve();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 600);
    expect(await look).toBe(true);
  });

  it('answers a thousand looks in less than a second, from one process', async () => {
    const begun = performance.now();
    for (let look = 0; look < 1000; look++) await guard.exists(share);
    expect(performance.now() - begun).toBeLessThan(1000);
  });
});

describe.runIf(process.getuid?.() === 0)('a share that hangs', () => {
  it('is noticed at the deadline and named, and not asked again', async () => {
    await hang();
    const begun = performance.now();
    await expect(guard.exists(join(share, 'ready'))).rejects.toMatchObject({
      fault: 'node',
      code: 'share-hangs',
      message: expect.stringMatching(
        /^the share .*\(server:\/export\) hangs: a look at .*ready has had no answer for 0\.4 s$/,
      ),
    });
    const waited = performance.now() - begun;
    expect(waited).toBeLessThan(2_000);
    await expect(guard.exists(share)).rejects.toMatchObject({ code: 'share-hangs' });
    expect(performance.now() - begun - waited).toBeLessThan(100);
  });

  it('does not keep the process that looked from ending', async () => {
    await hang();
    const program = join(directory, 'program.cjs');
    bundleProgram(
      `import { openShareGuard } from './guard.ts';
      const guard = openShareGuard('x', 300);
      guard.exists(process.argv[2]).catch((error) => { console.log(error.code); process.exitCode = 2; });`,
      join(import.meta.dirname, '../../../../src/guest/share'),
      program,
    );
    const { status, stdout } = spawnSync(process.execPath, [program, join(share, 'x')], {
      encoding: 'utf8',
      timeout: 10_000,
    });
    expect([status, stdout]).toEqual([2, 'share-hangs\n']);
  });
});

describe('checkShare', () => {
  it('finds nothing wrong with a share that is there', async () => {
    await expect(checkShare(guard, share, share)).resolves.toBeUndefined();
  });

  it('names a share that is not there, and what to do', async () => {
    await expect(checkShare(guard, '/gone (server:/export)', join(share, 'gone'))).rejects.toMatchObject({
      fault: 'node',
      code: 'share-stale',
      message: 'the share /gone (server:/export) cannot be used (ENOENT)',
      hint: expect.stringContaining('is it mounted on this node?'),
    });
  });
});
