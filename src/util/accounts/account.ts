// The accounts of this machine, as the mom sees them.
import { readFileSync } from 'node:fs';
import { VmbatchError } from '../errors.ts';
import { run } from '../processes/run.ts';

export interface Account {
  name: string;
  uid: number;
  gid: number;
  /** Name of the primary group. */
  group: string;
  groups: { name: string; gid: number }[];
  home: string;
  shell: string;
}

/** Looks an account up: in the local files first, which costs nothing, then through the name service.
 * @throws VmbatchError `site` (`account-unknown`) if there is none: whose job it is decides that, and another
 * node may know it. */
export async function findAccount(name: string): Promise<Account> {
  const local = lineOf(readFileSync('/etc/passwd', 'utf8'), name);
  const passwd = local ?? lineOf(await getent('passwd', name), name);
  const [, , uid, gid, , home, shell] = passwd?.split(':') ?? [];
  if (uid === undefined || gid === undefined || home === undefined || shell === undefined)
    throw new VmbatchError({
      fault: 'site',
      code: 'account-unknown',
      message: `this node has no account ${JSON.stringify(name)}`,
      hint: 'the accounts of the CE must exist on every worker node with the same ids',
    });
  const lines = readFileSync('/etc/group', 'utf8').split('\n');
  // An account of the name service has groups of the name service.
  if (local === undefined) lines.push(...(await nameServiceGroups(name)));
  const groups = lines.map((line) => line.split(':'));
  const primary = groups.find(([, , id]) => id === gid) ?? (await getent('group', gid)).trim().split(':');
  const members = groups.filter(
    ([, , id, names]) => id !== gid && (names?.split(',').includes(name) ?? false),
  );
  return {
    name,
    uid: Number(uid),
    gid: Number(gid),
    group: primary[0] || name,
    groups: members.map(([group, , id]) => ({ name: group ?? '', gid: Number(id) })),
    home,
    shell: shell === '' ? '/bin/sh' : shell,
  };
}

/** The account with a user id; undefined if there is none in the local files or the name service. */
export async function accountOfUid(uid: number): Promise<Account | undefined> {
  const local = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((line) => line.split(':')[2] === String(uid));
  const name = (local ?? (await getent('passwd', String(uid)))).split(':')[0];
  return name === undefined || name === '' ? undefined : findAccount(name);
}

/** The account's groups as lines of /etc/group, in which it stands as the member. */
async function nameServiceGroups(name: string): Promise<string[]> {
  const ids = (await run('id', ['-G', '--', name], { timeoutMs: 10_000 })).stdout.trim().split(' ');
  const known = await run('getent', ['--', 'group', ...ids], { timeoutMs: 10_000 });
  return known.stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => [...line.split(':').slice(0, 3), name].join(':'));
}

function lineOf(text: string, name: string): string | undefined {
  return text.split('\n').find((line) => line.startsWith(`${name}:`));
}

async function getent(database: 'passwd' | 'group', key: string): Promise<string> {
  return (await run('getent', ['--', database, key], { timeoutMs: 10_000 })).stdout;
}
