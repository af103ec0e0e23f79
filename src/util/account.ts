// The accounts of this machine, as the mom sees them.
import { readFileSync } from 'node:fs';
import { VmbatchError } from './errors.ts';
import { run } from './run.ts';

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
 * @throws VmbatchError `node` if there is none. */
export async function findAccount(name: string): Promise<Account> {
  const passwd =
    lineOf(readFileSync('/etc/passwd', 'utf8'), name) ?? lineOf(await getent('passwd', name), name);
  const [, , uid, gid, , home, shell] = passwd?.split(':') ?? [];
  if (uid === undefined || gid === undefined || home === undefined || shell === undefined)
    throw new VmbatchError({
      fault: 'node',
      code: 'account-unknown',
      message: `this node has no account ${JSON.stringify(name)}`,
      hint: 'the accounts of the CE must exist on every worker node with the same ids',
    });
  const groups = readFileSync('/etc/group', 'utf8');
  const primary =
    groups.split('\n').find((line) => line.split(':')[2] === gid) ?? (await getent('group', gid)).trim();
  return {
    name,
    uid: Number(uid),
    gid: Number(gid),
    group: primary.split(':')[0] || name,
    groups: groups
      .split('\n')
      .map((line) => line.split(':'))
      .filter(([, , id, members]) => id !== gid && members?.split(',').includes(name))
      .map(([group, , id]) => ({ name: group ?? '', gid: Number(id) })),
    home,
    shell: shell === '' ? '/bin/sh' : shell,
  };
}

function lineOf(text: string, name: string): string | undefined {
  return text.split('\n').find((line) => line.startsWith(`${name}:`));
}

async function getent(database: 'passwd' | 'group', key: string): Promise<string> {
  return (await run('getent', ['--', database, key], { timeoutMs: 10_000 })).stdout;
}
