// Doing file work in a user's directory as that user, so that no link of theirs makes root read or write elsewhere.
import { VmbatchError } from './errors.ts';

/** The account a job is mapped to. */
export interface Account {
  uid: number;
  gid: number;
}

/** Runs `work` with the effective uid, gid and groups of `account`, and returns to ours, whatever happens.
 *
 * `work` must be synchronous. The ids belong to the whole process, so nothing asynchronous may touch files or
 * start programs meanwhile: await it before. Supplementary groups are those of the account in the user database
 * (the share may need them), or none beside `gid` if it has no entry there. A process that is not root runs
 * `work` as it is when the account is its own.
 * @throws VmbatchError `site` if this process may not become that user; what `work` throws. */
export function asUser<T>(account: Account, work: () => T): T {
  const { geteuid, getegid, getgroups, seteuid, setegid, setgroups } = process;
  if (!geteuid || !getegid || !getgroups || !seteuid || !setegid || !setgroups)
    throw new VmbatchError({ fault: 'bug', code: 'as-user-platform', message: 'needs a POSIX system' });
  const uid = geteuid();
  if (uid === account.uid) return work();
  if (uid !== 0)
    throw new VmbatchError({
      fault: 'site',
      code: 'as-user-denied',
      message: `uid ${uid} cannot act as uid ${account.uid}`,
      hint: 'scan must run as root, as A-REX starts it',
    });
  const gid = getegid();
  const groups = getgroups();
  try {
    // The gid before the groups: getgroups names it among them, and ours must not be remembered.
    setegid(account.gid);
    takeGroups(account);
    seteuid(account.uid);
    return work();
  } finally {
    // The uid first: only root may set the others.
    seteuid(uid);
    setegid(gid);
    setgroups(groups);
  }
}

/** The names of accounts by uid do not change while we run, and the lookup reads files each time. */
const groupsOf = new Map<string, number[]>();

/** Documented by Node, absent from its type declarations. Numbers are looked up in the user database. */
const { initgroups } = process as typeof process & { initgroups: (uid: number, gid: number) => void };

function takeGroups(account: Account): void {
  const key = `${account.uid}:${account.gid}`;
  const known = groupsOf.get(key);
  if (known !== undefined) {
    process.setgroups?.(known);
    return;
  }
  try {
    initgroups(account.uid, account.gid);
  } catch {
    process.setgroups?.([account.gid]); // no entry in the user database
  }
  groupsOf.set(key, process.getgroups?.() ?? [account.gid]);
}
