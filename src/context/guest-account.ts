// The job's account as its guest has it: the same ids, and the same names where they can stand in the guest's
// /etc/passwd and /etc/group.
import type { Account } from '../util/accounts/account.ts';
import { VmbatchError } from '../util/errors.ts';

/** What every program of a guest takes for a name. Accounts of a directory service have others as well
 * (`domain users`, `DOMAIN\alice`, names of digits alone), which some programs take for something else: an
 * id, an option, a pattern, two words. */
const PLAIN_NAME = /^[A-Za-z_][A-Za-z0-9._@+-]{0,31}$/;

/** Files that a share shows belong to numbers, so the ids are what matters. A name that the guest could not
 * have is made from the id; so is `root`, unless it is root's. */
export function guestAccount(account: Account): Account {
  const { name, uid, gid, group, groups, home } = account;
  const taken = new Set<string>();
  const groupName = (wish: string, id: number) => unique(nameInGuest(wish, id, 'group'), taken);
  const user = nameInGuest(name, uid, 'user');
  return {
    ...account,
    name: user,
    group: groupName(group, gid),
    groups: groups.map((each) => ({ name: groupName(each.name, each.gid), gid: each.gid })),
    // Where passwd names no absolute path, a login would take it for one below wherever it is.
    home: home.startsWith('/') ? home : `/home/${user}`,
  };
}

function nameInGuest(name: string, id: number, kind: 'user' | 'group'): string {
  return PLAIN_NAME.test(name) && (name !== 'root' || id === 0) ? name : `${kind}${id}`;
}

/** A made name may be another group's own. */
function unique(wish: string, taken: Set<string>): string {
  let name = wish;
  for (let count = 2; taken.has(name); count++) name = `${wish}-${count}`;
  taken.add(name);
  return name;
}

/** @throws VmbatchError `job` (`account-refused`): a guest is for others than root */
export function refuseRoot({ name, uid }: Account): void {
  if (uid !== 0) return;
  throw new VmbatchError({
    fault: 'job',
    code: 'account-refused',
    message: `the job belongs to ${JSON.stringify(name)}, who is root: a job never runs as root`,
    hint: 'submit it from another account',
  });
}
