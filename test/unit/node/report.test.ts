import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatError, toVmbatchError, VmbatchError } from '../../../src/util/errors.ts';
import { reportError } from '../../../src/util/report.ts';

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
      expect(reportError(toVmbatchError(thrown))).toMatch(/\(src\/broken\.ts:4:\d+\)/);
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
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), {
    code: 'ENOSPC',
    syscall: 'write',
  });

  it("takes a failed system call for the machine's fault where it is told whose machine it is", () => {
    expect(toVmbatchError(full, 'node')).toMatchObject({ fault: 'node', code: 'disk-full' });
    expect(toVmbatchError(full)).toMatchObject({ fault: 'bug' });
    expect(toVmbatchError(new TypeError('x is undefined'), 'node')).toMatchObject({ fault: 'bug' });
  });

  it('knows an error of another bundle by its name', () => {
    const foreign = Object.assign(new Error('theirs'), { name: 'VmbatchError', fault: 'job', code: 'x' });
    expect(formatError(toVmbatchError(foreign))).toBe('vmbatch: job fault: theirs [x]');
  });
});
