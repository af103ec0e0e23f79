// Adding to a file of a user's, or making it: whatever may stand in its place.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openUserFiles } from '../../../../src/util/accounts/as-user.ts';

const ROOT = process.getuid?.() === 0;
const USER = ROOT
  ? { uid: 65534, gid: 65534 }
  : { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-append-'));
  chownSync(directory, USER.uid, USER.gid);
  path = join(directory, 'job.e7');
});
afterEach(() => rmSync(directory, { recursive: true }));

async function append(to = path, createMode = 0o600) {
  const files = openUserFiles(USER, { deadlineMs: 10_000 });
  try {
    const [result] = await files.perform([
      { do: 'append', path: to, data: 'why\n', unlessHas: 'why\n', createMode },
    ]);
    return result;
  } finally {
    files.close();
  }
}

describe('appending to a file that may have to be made', () => {
  it.each([0o600, 0o644, 0o664])('makes it as the user, with just the mode %o', async (mode) => {
    expect(await append(path, mode)).toEqual({ ok: true, found: false });
    expect(readFileSync(path, 'utf8')).toBe('why\n');
    expect(statSync(path)).toMatchObject({ uid: USER.uid, gid: USER.gid, mode: 0o100_000 | mode });
  });

  it('keeps what is there, and the mode that it has, and says nothing twice', async () => {
    writeFileSync(path, 'before\n', { mode: 0o640 });
    chownSync(path, USER.uid, USER.gid);
    for (const _ of [1, 2]) expect(await append()).toEqual({ ok: true, found: true });
    expect(readFileSync(path, 'utf8')).toBe('before\nwhy\n');
    expect(statSync(path).mode & 0o777).toBe(0o640);
  });

  it('follows no symbolic link, neither to a file nor to nothing', async () => {
    const other = join(directory, 'other');
    for (const text of ['', undefined]) {
      if (text === undefined) rmSync(other);
      else writeFileSync(other, text, { mode: 0o666 });
      rmSync(path, { force: true });
      symlinkSync(other, path);
      expect(await append()).toMatchObject({ ok: false, why: 'is a symbolic link' });
      if (text === undefined) expect(() => statSync(other)).toThrow('ENOENT');
      else expect(readFileSync(other, 'utf8')).toBe('');
    }
  });

  it('waits for nobody at a FIFO', async () => {
    spawnSync('mkfifo', ['-m', '666', path]);
    expect(await append()).toMatchObject({ ok: false, why: 'is not a regular file' });
  });

  it('tells a directory, with or without a slash', async () => {
    mkdirSync(path);
    chownSync(path, USER.uid, USER.gid);
    expect(await append()).toMatchObject({ ok: false, errno: 'EISDIR' });
    expect(await append(`${path}/`)).toMatchObject({ ok: false, errno: 'EISDIR' });
  });

  it('makes no folders, and says which way it failed', async () => {
    expect(await append(join(directory, 'no/such'))).toEqual({
      ...{ ok: false, why: 'cannot be written (ENOENT)', errno: 'ENOENT' },
    });
  });

  it.runIf(ROOT)('writes nothing that the user may not write', async () => {
    chownSync(directory, 0, 0);
    chmodSync(directory, 0o755);
    expect(await append()).toMatchObject({ ok: false, why: 'cannot be written (EACCES)' });
    writeFileSync(path, 'before\n', { mode: 0o644 });
    expect(await append()).toMatchObject({ ok: false, why: 'cannot be written (EACCES)' });
    expect(readFileSync(path, 'utf8')).toBe('before\n');
  });
});
