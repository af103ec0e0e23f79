// The machine's own user data base: the stand-in runs jobs as real users.
import { execFileSync } from 'node:child_process';

export interface UnixUser {
  name: string;
  uid: number;
  gid: number;
  group: string;
  groups: number[];
  home: string;
  shell: string;
}

function ask(program: string, words: string[]): string | undefined {
  try {
    return execFileSync(program, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return undefined;
  }
}

/** How long an answer of the user data base is believed, in milliseconds. */
const BELIEVED_MS = 5_000;
const known = new Map<string, { at: number; user: UnixUser | undefined }>();

/** By name or number; undefined if there is no such account. */
export function lookupUser(nameOrUid: string | number): UnixUser | undefined {
  const key = String(nameOrUid);
  const held = known.get(key);
  if (held !== undefined && Date.now() - held.at < BELIEVED_MS) return held.user;
  const user = readUser(key);
  known.set(key, { at: Date.now(), user });
  return user;
}

/** The number of a group by its name; undefined if there is no such group. */
export function lookupGroup(name: string): number | undefined {
  const gid = ask('getent', ['group', '--', name])?.split(':')[2];
  return gid === undefined ? undefined : Number(gid);
}

function readUser(key: string): UnixUser | undefined {
  const [name = '', , uid = '', gid = '', , home = '/', shell = ''] =
    ask('getent', ['passwd', '--', key])?.split(':') ?? [];
  if (name === '') return undefined;
  return {
    name,
    uid: Number(uid),
    gid: Number(gid),
    group: ask('getent', ['group', '--', gid])?.split(':')[0] ?? gid,
    groups: (ask('id', ['-G', '--', name]) ?? gid).split(/\s+/).map(Number),
    home,
    shell: shell === '' ? '/bin/sh' : shell,
  };
}
