// The Unix account of a site: made for it, used by no other site, and removed with it.
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VmbatchError } from '../../src/util/errors.ts';
import { describeRun, type RunResult } from '../../src/util/processes/run.ts';
import { tryLock } from './lock.ts';
import { runSheltered } from './sheltered.ts';
import type { Undo } from './undo.ts';

export interface SiteAccount {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

/** By this an account is known as one that a site has made, and that may be removed. */
const COMMENT = 'vmbatch one-node site';
const MOST_SITES = 20;

/** Makes the account NAME, or NAME-2, NAME-3 … while other sites use that; one that nobody has removed is
 * made anew. Its home is `homes`/NAME.
 * @throws VmbatchError `node` if no name is free or useradd fails. */
export async function makeAccount(wanted: string, homes: string, undo: Undo): Promise<SiteAccount> {
  let last: RunResult | undefined;
  for (let number = 1; number <= MOST_SITES; number++) {
    const name = number === 1 ? wanted : `${wanted}-${number}`;
    const unlock = await tryLock(`account ${name}`);
    if (unlock === undefined) continue;
    const home = join(homes, name);
    if (await removed(name)) {
      undo.add(`remove the account ${name}`, async () => {
        const ended = await removeAccount(name);
        await unlock();
        return ended;
      });
      // A home on the share, so that a plain job finds its files in the guest.
      const options = ['--no-create-home', '--home-dir', home, '--shell', '/bin/bash', '--user-group'];
      last = await runSheltered('useradd', [...options, '--comment', COMMENT, name]);
      const account = accountOf(name);
      if (last.exitCode === 0 && account !== undefined) {
        mkdirSync(home, { recursive: true });
        chownSync(home, account.uid, account.gid);
        chmodSync(home, 0o700);
        return { name, uid: account.uid, gid: account.gid, home };
      }
      // 9: a group has that name. Anything else would be no better with another name.
      if (last.exitCode !== 9) break;
    } else await unlock();
  }
  throw new VmbatchError({
    fault: 'node',
    code: 'site-account',
    message:
      last === undefined
        ? `no account could be made for the site: ${wanted} to ${wanted}-${MOST_SITES} exist`
        : `no account could be made for the site: ${describeRun(last)}`,
    hint: 'it needs root, and at most 20 sites at a time',
  });
}

/** Whether there is no such account, or no more: only one that a site has made is removed. */
async function removed(name: string): Promise<boolean> {
  const account = accountOf(name);
  if (account === undefined) return true;
  if (account.comment !== COMMENT) return false;
  return (await runSheltered('userdel', [name])).exitCode === 0;
}

/** Ends what still runs under the account (a login, a job's child), then removes it. */
async function removeAccount(name: string): Promise<string[]> {
  const account = accountOf(name);
  if (account?.comment !== COMMENT) return [];
  const ended = await endProcesses(account.uid, name);
  const result = await runSheltered('userdel', [name]);
  if (result.exitCode !== 0) throw new Error(describeRun(result));
  return ended;
}

async function endProcesses(uid: number, name: string): Promise<string[]> {
  const ended = new Map<number, string>();
  for (let round = 0; round < 40; round++) {
    const running = processesOf(uid);
    if (running.length === 0) break;
    for (const [pid, program] of running) {
      ended.set(pid, `process ${pid} (${program}) of ${name}`);
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // gone meanwhile
      }
    }
    await sleep(50);
  }
  return [...ended.values()];
}

function processesOf(uid: number): [pid: number, program: string][] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => {
      try {
        const status = readFileSync(`/proc/${entry}/status`, 'utf8');
        const zombie = /^State:\s*Z/m.test(status);
        const program = /^Name:\s*(.*)$/m.exec(status)?.[1] ?? '?';
        return statSync(`/proc/${entry}`).uid === uid && !zombie ? [[Number(entry), program]] : [];
      } catch {
        return []; // ended meanwhile
      }
    });
}

function accountOf(name: string): { uid: number; gid: number; comment: string } | undefined {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((text) => text.startsWith(`${name}:`));
  if (line === undefined) return undefined;
  const [, , uid, gid, comment = ''] = line.split(':');
  return { uid: Number(uid), gid: Number(gid), comment };
}

/** Arguments of setpriv for an account. */
export function asAccount(account: { uid: number; gid: number }): string[] {
  return [`--reuid=${account.uid}`, `--regid=${account.gid}`, '--init-groups'];
}
