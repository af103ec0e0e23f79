// The list of a job's nodes, as the mom gives it to the prologue, and what is done without one.
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readNodeLines } from '../../../../src/node/hooks/node-lines.ts';
import { NO_LOG } from '../../../../src/util/log.ts';

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-lines-'));
  path = join(directory, '7.server');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe.runIf(process.getuid?.() === 0)('readNodeLines', () => {
  const read = (resources: string, isNamed = true) => {
    const warnings: string[] = [];
    const log = { ...NO_LOG, write: (_level: string, text: string) => void warnings.push(text) };
    return { text: readNodeLines({ path: isNamed ? path : undefined, resources, log }), warnings };
  };

  it('returns the lines, without a word', () => {
    writeFileSync(path, 'wn1\nwn1\nwn2\n');
    expect(read('nodes=2:ppn=2')).toEqual({ text: 'wn1\nwn1\nwn2\n', warnings: [] });
  });

  it.each(['', '\n'])('warns of a list with nothing but %j in it, of a job on one node', (lines) => {
    writeFileSync(path, lines);
    expect(read('nodes=1:ppn=2,walltime=60')).toEqual({
      text: undefined,
      warnings: [
        `the mom gave no list of the job's nodes (PBS_NODEFILE is ${path}): PBS_NUM_PPN decides on the processors of the guest`,
      ],
    });
  });

  it.each(['nodes=2', 'walltime=60,nodes=1:ppn=2+wn2:ppn=4', 'nodes=wn1+wn2'])(
    'refuses -l %s without a list, as the node’s fault',
    (resources) => {
      const refused = expect.objectContaining({
        fault: 'node',
        code: 'hook-arguments',
        message: expect.stringContaining(`the job asks for several nodes, and the mom gave no list`),
      });
      expect(() => read(resources)).toThrow(refused);
    },
  );

  it('says so where the mom names no file', () => {
    const { warnings } = read('nodes=1', false);
    expect(warnings.join()).toContain('PBS_NODEFILE is not set');
  });

  it('follows no link', () => {
    symlinkSync('/etc/passwd', path);
    expect(() => read('nodes=1')).toThrow(/is a symbolic link/);
  });
});
