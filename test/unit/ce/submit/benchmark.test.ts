import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseArcConfiguration } from '../../../../src/arc/configuration/configuration.ts';
import { noteBenchmark } from '../../../../src/ce/submit/benchmark.ts';

const CONFIGURATION = parseArcConfiguration(
  '[lrms]\nlrms=vmbatch main\nbenchmark=HEPSPEC 3\n[custom:vmbatch]\nimage=demo\n[queue:main]\n[queue:other]\nbenchmark=HEPSPEC 9.25\n',
  'arc.conf',
);

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmbatch-benchmark-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

describe('noteBenchmark', () => {
  const note = (more: { queue?: string; benchmark?: string } = {}) => {
    let said = '';
    const job = { sessionDirectory: join(root, 'ID'), queue: undefined, benchmark: undefined, ...more };
    noteBenchmark(job, CONFIGURATION, (line) => {
      said += line;
    });
    return said;
  };
  const diag = () => readFileSync(join(root, 'ID.diag'), 'utf8');

  it("adds the job's own benchmark, or its queue's, to what is in .diag", () => {
    writeFileSync(join(root, 'ID.diag'), 'x=y\n');
    expect(note({ queue: 'other' })).toBe('');
    expect(diag()).toBe('x=y\nBenchmark=HEPSPEC:9.25\n');
    note({ queue: 'other', benchmark: 'Si2k:7' });
    expect(diag()).toBe('x=y\nBenchmark=HEPSPEC:9.25\nBenchmark=Si2k:7\n');
  });

  it('makes no file, and says that it does not follow a link, but lets the submission go on', () => {
    expect(note()).toBe('');
    expect(diag).toThrow('ENOENT');
    writeFileSync(join(root, 'other'), '');
    symlinkSync(join(root, 'other'), join(root, 'ID.diag'));
    expect(note()).toBe(`vmbatch: ${root}/ID.diag: the benchmark could not be written (ELOOP)\n`);
    expect(readFileSync(join(root, 'other'), 'utf8')).toBe('');
  });
});
