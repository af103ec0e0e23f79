// The group that a job runs as: the user's own, or one of `-W group_list=`.
import { BatchFault } from '../common/faults.ts';
import { lookupGroup, type UnixUser } from '../common/users.ts';

/** @param list `GROUP[@HOST],...` as qsub takes it; an entry without host counts
 * @throws BatchFault 15047 unless the user is in that group */
export function executionGroup(
  user: UnixUser,
  list: string | undefined,
  gidOf: (name: string) => number | undefined = lookupGroup,
): string {
  if (list === undefined) return user.group;
  const entries = list.split(',').map((entry) => entry.trim());
  const name = (entries.find((entry) => !entry.includes('@')) ?? entries[0] ?? '').replace(/@.*$/, '');
  if (name === user.group) return name;
  const gid = /^[\w][\w.-]*$/.test(name) ? gidOf(name) : undefined;
  if (gid !== undefined && user.groups.includes(gid)) return name;
  throw new BatchFault('badGroup', `MSG=user ${user.name} is not in the group ${JSON.stringify(name)}`);
}
