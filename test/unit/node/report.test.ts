import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatError, toVmbatchError, VmbatchError } from '../../../src/util/errors.ts';
import { reportError } from '../../../src/util/program/report.ts';

describe('reportError', () => {
  it('shows the stack of a bug in terms of the sources', () => {
    const folder = mkdtempSync(join(tmpdir(), 'vmbatch-report-'));
    try {
      mkdirSync(join(folder, 'src'));
      const source =
        'interface X { a: string }\n\nexport function broken(x: X | undefined): string {\n  return x!.a;\n}\nbroken(undefined);\n';
      writeFileSync(join(folder, 'src/broken.ts'), source);
      const esbuild = new URL('../../../node_modules/esbuild/bin/esbuild', import.meta.url).pathname;
      const bundle = join(folder, 'dist/broken.cjs');
      execFileSync(esbuild, [
        ...[join(folder, 'src/broken.ts'), '--bundle', '--platform=node', '--minify', '--sourcemap=external'],
        ...['--log-level=error', `--outfile=${bundle}`],
      ]);
      const { stderr } = spawnSync(process.execPath, [bundle], { encoding: 'utf8' });
      const thrown = new TypeError('x is undefined');
      thrown.stack = stderr.slice(stderr.indexOf('TypeError'));
      expect(reportError(toVmbatchError(thrown, 'node'))).toMatch(/\(src\/broken\.ts:4:\d+\)/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('spares the reader the stack of anything else', () => {
    const error = new VmbatchError({
      fault: 'node',
      code: 'disk-full',
      message: 'no room',
      hint: 'make some',
    });
    expect(reportError(error)).toBe(
      'vmbatch: node fault: no room [disk-full]\nvmbatch: what to do: make some',
    );
  });
});

describe('toVmbatchError', () => {
  it.each(['ENOSPC', 'EDQUOT', 'EACCES', 'EPERM', 'ENOENT', 'ENOTDIR', 'EROFS', 'EIO', 'ESTALE', 'EMFILE'])(
    "takes a system call that failed with %s for the machine's fault, and says what to do",
    (code) => {
      const thrown = Object.assign(new Error(`${code}: some words, open '/x'`), { code, syscall: 'open' });
      for (const machine of ['node', 'site'] as const) {
        const error = toVmbatchError(thrown, machine);
        expect(error).toMatchObject({
          fault: machine,
          code: ['ENOSPC', 'EDQUOT'].includes(code) ? 'disk-full' : 'system-call',
        });
        expect(formatError(error)).toMatch(/\/x.*\nvmbatch: what to do: ./);
      }
    },
  );

  it('takes a part of the program that is not there for an installation that is incomplete', () => {
    const thrown = Object.assign(new Error("Cannot find module './lib/x.cjs'\nRequire stack:\n- /y"), {
      code: 'MODULE_NOT_FOUND',
    });
    expect(formatError(toVmbatchError(thrown, 'node')).split('\n')[0]).toBe(
      "vmbatch: node fault: a part of vmbatch is missing, or may not be read: Cannot find module './lib/x.cjs' " +
        '[installation-incomplete]',
    );
  });

  it('takes only what no set-up can cause for a bug', () => {
    const closed = Object.assign(new Error('EBADF: bad file descriptor, read'), {
      code: 'EBADF',
      syscall: 'read',
    });
    expect(toVmbatchError(closed, 'node')).toMatchObject({ fault: 'bug' });
    expect(toVmbatchError(new TypeError('x is undefined'), 'node')).toMatchObject({ fault: 'bug' });
  });

  it('knows an error of another bundle by its name', () => {
    const foreign = Object.assign(new Error('theirs'), { name: 'VmbatchError', fault: 'job', code: 'x' });
    expect(formatError(toVmbatchError(foreign, 'site'))).toBe('vmbatch: job fault: theirs [x]');
  });
});
