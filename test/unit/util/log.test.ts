// A log that cannot be written goes to the system's: it may neither fail nor hold up what it is about.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { openNodeLog } from '../../../src/node/environment.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-log-'));
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true });
});

it('has a line with the job for people, and one for machines', async () => {
  const log = await openNodeLog(directory, '7.server');
  log.write('warn', 'a\nmessage', { seconds: 3 });
  await log.close();
  expect(readFileSync(join(directory, 'vmbatch.log'), 'utf8')).toMatch(
    /^\S+ warn {2}7\.server a message seconds=3\n$/,
  );
  expect(JSON.parse(readFileSync(join(directory, 'vmbatch.json'), 'utf8'))).toMatchObject({
    job: '7.server',
  });
});

it.each<[string, () => string]>([
  ['on /proc', () => '/proc'],
  [
    'on /proc, by a link',
    () => {
      symlinkSync('/proc', join(directory, 'link'));
      return join(directory, 'link');
    },
  ],
  [
    'a file',
    () => {
      writeFileSync(join(directory, 'file'), '');
      return join(directory, 'file');
    },
  ],
  [
    'a directory with a FIFO in place of the log',
    () => {
      execFileSync('mkfifo', [join(directory, 'vmbatch.log')]);
      return directory;
    },
  ],
])('is the log of the system, at once, where the directory is %s', async (_what, place) => {
  const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const bin = join(directory, 'bin');
  mkdirSync(bin);
  writeFileSync(join(bin, 'logger'), `#!/bin/sh\necho "$@" >>${join(bin, 'said')}\n`, { mode: 0o755 });
  vi.stubEnv('PATH', `${bin}:${process.env['PATH']}`);
  const started = performance.now();
  const log = await openNodeLog(place(), '7.server');
  log.write('error', 'what went wrong');
  await log.close();
  vi.unstubAllEnvs();
  expect(performance.now() - started).toBeLessThan(2_000);
  expect(readFileSync(join(bin, 'said'), 'utf8')).toBe(
    '-t vmbatch -p daemon.err -- 7.server what went wrong\n',
  );
  expect(said).toHaveBeenCalledWith(expect.stringMatching(/^vmbatch: no log in .* \(E[A-Z]+\): /));
});
