// However a command is called wrongly, the exit code is one, and what is wrong stands on stderr without a
// stack.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

let directory: string;
let vmbatch: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-usage-'));
  const builder = new URL('../../../scripts/build.mjs', import.meta.url).pathname;
  execFileSync(process.execPath, [builder, join(directory, 'dist')]);
  vmbatch = join(directory, 'dist/vmbatch');
}, 60_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const call = (words: string) =>
  spawnSync(vmbatch, words === '' ? [] : words.split(' '), { encoding: 'utf8', input: '', cwd: directory });

describe.runIf(process.getuid?.() === 0)('a command', () => {
  it.each(
    [
      ['', 'nosuch', 'check', 'check nosuch', 'check ce --bad', 'check node --bad'],
      ['submit', 'submit --bad', 'scan', 'scan --bad', 'cancel', 'cancel --bad', 'info', 'info --bad'],
      ['context', 'context nosuch', 'context build --bad', 'domain', 'domain show --bad'],
      ['hooks', 'hooks nosuch', 'hooks install --bad', 'hooks install too many', 'hooks uninstall --bad'],
      ['image', 'image nosuch', 'image add', 'image add name', 'image list --bad', 'image build-demo --bad'],
      ['ssh', 'ssh --bad', 'console', 'console --bad', 'release --bad', 'reap --bad', 'reap too many'],
      ['node', 'node nosuch', 'node status --bad', 'node enable too many', 'node adopt --bad'],
    ].flat(),
  )('that is called wrongly ends with 2: %s', (words) => {
    const { status, stdout, stderr } = call(words);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).not.toBe('');
    expect(stderr).not.toMatch(/^ +at |bug fault/m);
  });

  it.each(['--help', 'hooks --help', 'hooks install --help', 'image add --help', 'check --help', 'reap -h'])(
    'prints its help on stdout, and ends with 0: %s',
    (words) => {
      expect(call(words)).toMatchObject({ status: 0, stderr: '', stdout: expect.stringMatching(/usage/i) });
    },
  );
});
