import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { asUser } from '../../../src/util/as-user.ts';

const ROOT = process.getuid?.() === 0;
const NOBODY = { uid: 65534, gid: 65534 };

describe('asUser', () => {
  it('runs the work as it is for our own account', () => {
    const uid = process.getuid?.() ?? 0;
    expect(asUser({ uid, gid: process.getgid?.() ?? 0 }, () => process.geteuid?.())).toBe(uid);
  });

  it.runIf(!ROOT)('refuses another account to a process that is not root', () => {
    expect(() => asUser({ uid: 1, gid: 1 }, () => 0)).toThrow('cannot act as uid 1');
  });

  it.runIf(ROOT)(
    'gives files to the account, reads none of root, and returns to root with its groups',
    () => {
      const directory = mkdtempSync(join(tmpdir(), 'vmbatch-as-'));
      chmodSync(directory, 0o777);
      writeFileSync(join(directory, 'secret'), 'x', { mode: 0o600 });
      const before = [process.geteuid?.(), process.getegid?.(), process.getgroups?.()];
      asUser(NOBODY, () => writeFileSync(join(directory, 'mine'), 'y'));
      expect(statSync(join(directory, 'mine'))).toMatchObject(NOBODY);
      expect(() => asUser(NOBODY, () => readFileSync(join(directory, 'secret')))).toThrow('EACCES');
      expect(asUser(NOBODY, () => process.getgroups?.())).toEqual([65534]);
      // An account without an entry in the user database.
      expect(asUser({ uid: 54321, gid: 54321 }, () => process.getgroups?.())).toEqual([54321]);
      expect([process.geteuid?.(), process.getegid?.(), process.getgroups?.()]).toEqual(before);
      rmSync(directory, { recursive: true });
    },
  );
});
