import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { noteRefusal } from '../../../../src/node/hooks/refusal-note.ts';

const ROOT = process.getuid?.() === 0;
const USER = ROOT
  ? { uid: 65534, gid: 65534 }
  : { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };

let directory: string;
let script: string;
let comment: string;

const own = (path: string) => chownSync(path, USER.uid, USER.gid);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-note-'));
  chmodSync(directory, 0o755);
  script = join(directory, '1.vm.SC');
  comment = join(directory, 'session 1.comment');
  writeFileSync(script, `#!/bin/sh\n#PBS -j eo\n#PBS -e '${comment}'\ntrue\n`);
  writeFileSync(comment, 'before\n', { mode: 0o600 });
  for (const path of [script, comment]) own(path);
});
afterEach(() => rmSync(directory, { recursive: true }));

describe('noteRefusal', () => {
  it("appends to the output that the job's script names", async () => {
    await noteRefusal(script, USER, 'no such image');
    expect(readFileSync(comment, 'utf8')).toBe('before\nno such image\n');
  });

  it('makes no file, and fails on nothing', async () => {
    rmSync(comment);
    await noteRefusal(script, USER, 'x');
    expect(() => readFileSync(comment)).toThrow('ENOENT');
    await noteRefusal(join(directory, 'nowhere'), USER, 'x');
  });

  it('writes to no other file of the user, nor through a link', async () => {
    const other = join(directory, 'other');
    writeFileSync(other, '');
    own(other);
    rmSync(comment);
    symlinkSync(other, comment);
    await noteRefusal(script, USER, 'x');
    writeFileSync(script, `#PBS -e ${other}\n`);
    await noteRefusal(script, USER, 'x');
    expect(readFileSync(other, 'utf8')).toBe('');
  });

  it.runIf(ROOT)('writes to no file that the user may not write to', async () => {
    chownSync(comment, 0, 0);
    await noteRefusal(script, USER, 'x');
    expect(readFileSync(comment, 'utf8')).toBe('before\n');
  });
});
