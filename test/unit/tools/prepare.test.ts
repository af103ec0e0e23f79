// What makes a clone ready, in a clone that has next to nothing, with an npm that only writes down that it
// was called.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const project = new URL('../../..', import.meta.url).pathname;
let root: string;
const at = (...path: string[]) => join(root, ...path);

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmbatch-prepare-'));
  for (const folder of ['clone/scripts', 'bin', 'other']) mkdirSync(at(folder), { recursive: true });
  copyFileSync(join(project, 'scripts/prepare.mjs'), at('clone/scripts/prepare.mjs'));
  copyFileSync(join(project, 'package.json'), at('clone/package.json'));
  writeFileSync(at('clone/package-lock.json'), '{}');
  writeFileSync(
    at('clone/scripts/build.mjs'),
    `import { writeFileSync } from 'node:fs'; writeFileSync('built', process.argv.slice(2).join());`,
  );
  writeFileSync(at('bin/npm'), `#!/bin/sh\necho "$@" >> ${root}/npm; /bin/mkdir -p node_modules\n`, {
    mode: 0o755,
  });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const prepare = (...args: string[]) =>
  spawnSync(process.execPath, [at('clone/scripts/prepare.mjs'), ...args], {
    encoding: 'utf8',
    // No other program: Debian's packages cannot even be asked for.
    env: { PATH: at('bin') },
  });

describe('the build in a clone', () => {
  it('installs the npm packages first, once, and needs no Debian package', () => {
    for (const _ of [1, 2]) expect(prepare('build', 'FOLDER')).toMatchObject({ status: 0 });
    expect(readFileSync(at('clone/built'), 'utf8')).toBe('FOLDER');
    expect(readFileSync(at('npm'), 'utf8').match(/^ci /gm)).toHaveLength(1);
  });

  it('is what `npm run build` does', () => {
    const { scripts } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'));
    expect(scripts.build).toBe('node scripts/prepare.mjs build');
  });

  it("never installs through a link, into another clone's packages", () => {
    symlinkSync(at('other'), at('clone/node_modules'));
    const { status, stderr } = prepare('build');
    expect(stderr).toContain('node_modules is a link');
    expect(status).toBe(1);
    expect(existsSync(at('npm'))).toBe(false);
  });

  it('uses linked packages that are the right ones', () => {
    symlinkSync(at('other'), at('clone/node_modules'));
    writeFileSync(at('other/.vmbatch-lock'), createHash('sha256').update('{}').digest('hex'));
    expect(prepare('build')).toMatchObject({ status: 0 });
    expect(existsSync(at('npm'))).toBe(false);
    expect(existsSync(at('clone/built'))).toBe(true);
  });
});
