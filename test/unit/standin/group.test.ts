import { describe, expect, it } from 'vitest';
import { executionGroup } from '../../standin/server/group.ts';

const USER = {
  ...{ name: 'alice', uid: 5001, gid: 5000, group: 'alice', groups: [5000, 900] },
  ...{ home: '/home/alice', shell: '/bin/bash' },
};
const GROUPS = new Map([
  ['alice', 5000],
  ['prod', 900],
  ['root', 0],
]);
const group = (list: string | undefined) => executionGroup(USER, list, (name) => GROUPS.get(name));

describe('executionGroup', () => {
  it.each([
    [undefined, 'alice'],
    ['alice', 'alice'],
    ['prod', 'prod'],
    ['prod@vm', 'prod'],
    ['root@other, prod', 'prod'],
  ])('takes %s for %s', (list, expected) => {
    expect(group(list)).toBe(expected);
  });

  it.each(['root', 'nosuchgroup', '', '-n', '0'])('refuses %j, in which the user is not', (list) => {
    expect(() => group(list)).toThrow('Bad GID for job execution MSG=user alice is not in the group');
  });
});
