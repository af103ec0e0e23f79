// The job's account in its guest: ids stay, names fit into /etc/passwd and /etc/group.
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { guestAccount, refuseRoot } from '../../../src/context/guest-account.ts';
import { FAULT_OUTCOMES, toVmbatchError } from '../../../src/util/errors.ts';
import { resourcePath } from '../../../src/util/program/resources.ts';

const ACCOUNT = {
  ...{ name: 'alice', uid: 5001, gid: 5000, group: 'alice', groups: [{ name: 'grid', gid: 6000 }] },
  ...{ home: '/home/alice', shell: '/bin/bash' },
};
const SERVICE = resourcePath('share/guest/vmbatch-guest');

/** A name and whether it may stay. */
const NAMES: [string, boolean][] = [
  ['alice', true],
  ['Alice.Smith', true],
  ['alice@EXAMPLE.ORG', true],
  ['a+b-c_d', true],
  ['_svc', true],
  ['domain users', false],
  ['DOMAIN\\alice', false],
  ['machine$', false],
  ['5001', false],
  ['0x1f', false],
  ['-g', false],
  ['+nis', false],
  ['.hidden', false],
  ['Zürich', false],
  ["o'neill", false],
  ['x:y', false],
  ['a,b', false],
  ['root', false],
  ['', false],
  ['n'.repeat(32), true],
  ['n'.repeat(33), false],
];

describe('guestAccount', () => {
  it.each(NAMES)(
    'has for the name %j one that can stand in the files of a guest (itself: %j)',
    (name, stays) => {
      const guest = guestAccount({ ...ACCOUNT, name, group: name, groups: [{ name, gid: 6000 }] });
      expect(guest).toMatchObject({ uid: 5001, gid: 5000, home: '/home/alice', shell: '/bin/bash' });
      expect(guest.name).toBe(stays ? name : 'user5001');
      expect(guest.group).toBe(stays ? name : 'group5000');
      // One name is never two groups'.
      expect(guest.groups).toEqual([{ name: stays ? `${name}-2` : 'group6000', gid: 6000 }]);
    },
  );

  it.each(['dash', 'bash'])('goes by the same rule as the guest service under %s', (shell) => {
    const script = `. ${SERVICE}; log() { :; }; for name; do fit_name user 5001 "$name"; printf '%s\\n' "$fitted"; done`;
    const names = NAMES.map(([name]) => name);
    const inService = execFileSync(shell, ['-c', script, 'test', ...names], { encoding: 'utf8' });
    expect(inService.trimEnd().split('\n')).toEqual(
      names.map((name) => guestAccount({ ...ACCOUNT, name }).name),
    );
  });

  it("keeps root's own group", () => {
    const groups = [{ name: 'root', gid: 0 }];
    expect(guestAccount({ ...ACCOUNT, groups }).groups).toEqual(groups);
  });

  it('gives a home to an account whose home is no absolute path', () => {
    expect(guestAccount({ ...ACCOUNT, home: '' }).home).toBe('/home/alice');
    expect(guestAccount({ ...ACCOUNT, home: 'x' }).home).toBe('/home/alice');
    expect(guestAccount({ ...ACCOUNT, home: '/home/domain users/alice' }).home).toBe(
      '/home/domain users/alice',
    );
  });
});

describe('refuseRoot', () => {
  it('refuses a job of root, whatever he is called, as the fault of the job', () => {
    expect(() => refuseRoot(ACCOUNT)).not.toThrow();
    for (const name of ['root', 'toor']) {
      let thrown: unknown;
      try {
        refuseRoot({ ...ACCOUNT, name, uid: 0 });
      } catch (error) {
        thrown = error;
      }
      const error = toVmbatchError(thrown, 'node');
      expect(error).toMatchObject({ fault: 'job', code: 'account-refused' });
      expect(FAULT_OUTCOMES[error.fault].countsAgainstNode).toBe(false);
    }
  });
});
