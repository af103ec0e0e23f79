// A log that cannot be written is done without: it may neither fail nor hold up what it is about.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { openNodeLog } from '../../../src/node/environment.ts';
import { NO_LOG } from '../../../src/util/log.ts';

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
])('is done without, at once, where the directory is %s', async (_what, place) => {
  const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const started = performance.now();
  expect(await openNodeLog(place(), '7.server')).toBe(NO_LOG);
  expect(performance.now() - started).toBeLessThan(2_000);
  expect(said).toHaveBeenCalledWith(expect.stringMatching(/^vmbatch: no log in .* \(E[A-Z]+\): /));
});
