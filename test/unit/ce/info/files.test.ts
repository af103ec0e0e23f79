// The three programs that A-REX calls.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const BACKEND = new URL('../../../../arc-backend/', import.meta.url).pathname;

let directory: string;

/** The text of one of the files, for a machine on which nothing is installed, whatever is installed on this
 * one. */
const backendFile = (name: string) =>
  readFileSync(`${BACKEND}${name}-vmbatch-job`, 'utf8').replaceAll(
    '/usr/lib/vmbatch/vmbatch',
    join(directory, 'installed/vmbatch'),
  );

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-arc-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('the files for ARC', () => {
  it.each(['submit', 'scan', 'cancel'])(
    '%s-vmbatch-job starts the program beside it, through links, from anywhere',
    (name) => {
      const site = join(directory, 'a b');
      mkdirSync(join(site, 'dist'), { recursive: true });
      mkdirSync(join(site, 'arc-backend'));
      const file = join(site, 'arc-backend', `${name}-vmbatch-job`);
      writeFileSync(join(site, 'dist', 'vmbatch'), '#!/bin/sh\nprintf "%s\\n" "$@" "$NODE_OPTIONS"\n', {
        mode: 0o755,
      });
      writeFileSync(file, backendFile(name), { mode: 0o755 });
      const link = join(directory, `${name}-vmbatch-job`);
      execFileSync('ln', ['-s', file, link]);
      for (const path of [file, link, `./${name}-vmbatch-job`]) {
        const said = execFileSync(path, ['--config', 'C', 'a b'], {
          cwd: directory,
          env: { PATH: '/usr/bin:/bin', NODE_OPTIONS: '--inspect' },
        });
        expect(said.toString()).toBe(`${name}\n--config\nC\na b\n\n`);
      }
    },
  );

  it.each(['submit', 'scan', 'cancel'])('%s-vmbatch-job says what to do when there is no program', (name) => {
    const file = join(directory, `${name}-vmbatch-job`);
    writeFileSync(file, backendFile(name), { mode: 0o755 });
    const { status, stderr } = spawnSync(file, [], { encoding: 'utf8' });
    expect(status).toBe(4);
    expect(stderr).toContain(`${name}-vmbatch-job finds no vmbatch program`);
    expect(stderr).toContain('what to do: install vmbatch');
  });
});
