// The directory of a site: taken by one site at a time, and never one that holds anything else.
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf, VmbatchError } from '../../src/util/errors.ts';
import { tryLock } from './lock.ts';

/** Only a directory with this file in it was made by a site, and may be emptied. */
const MARKER = '.vmbatch-site';

/** Makes the directory, or takes over what a site that did not end well has left in it. Returns its real path
 * and how to give it back: it is removed as a whole.
 * @throws VmbatchError `node` if it holds something else, another site runs in it, or users cannot reach
 * it. */
export async function claimDirectory(
  wanted: string,
): Promise<{ directory: string; release: () => Promise<undefined> }> {
  const refuse = (code: `site-${string}`, message: string, hint: string) =>
    new VmbatchError({ fault: 'node', code, message, hint });
  const existed = existsSync(wanted);
  if (existed && !statSync(wanted).isDirectory())
    throw refuse('site-directory', `${resolve(wanted)} is not a directory`, 'name another with --dir');
  mkdirSync(wanted, { recursive: true, mode: 0o755 });
  const directory = realpathSync(wanted);
  const unlock = await tryLock(`site ${directory}`);
  if (unlock === undefined) {
    const hint = 'stop it (Ctrl-C where it runs), or give this one another directory with --dir';
    throw refuse('site-running', `a site is running in ${directory} already`, hint);
  }
  try {
    const entries = readdirSync(directory);
    if (entries.length > 0 && !entries.includes(MARKER)) {
      const found = entries.slice(0, 3).join(', ');
      throw refuse(
        'site-directory',
        `${directory} holds something that no site has made: ${found}`,
        'name a directory that is empty or does not exist: all of it is deleted at the end',
      );
    }
    const closed = directoriesAbove(directory).find((path) => (statSync(path).mode & 0o001) === 0);
    if (closed !== undefined) {
      if (!existed) rmSync(directory, { recursive: true });
      const hint = `use another directory, or: chmod o+x ${closed}`;
      throw refuse('site-directory', `jobs' users cannot reach ${directory}: ${closed} is closed`, hint);
    }
    empty(directory);
    chmodSync(directory, 0o755);
    writeFileSync(join(directory, MARKER), `process ${process.pid}\n`);
  } catch (error) {
    await unlock();
    throw error;
  }
  return {
    directory,
    release: async () => {
      empty(directory);
      rmSync(directory, { recursive: true, force: true });
      await unlock();
      return undefined;
    },
  };
}

/** The marker goes last: what is cut short can be taken up again. */
function empty(directory: string): void {
  for (const name of readdirSync(directory))
    if (name !== MARKER) rmSync(join(directory, name), { recursive: true, force: true });
}

function directoriesAbove(directory: string): string[] {
  const above = dirname(directory);
  return above === directory ? [] : [above, ...directoriesAbove(above)];
}

/** Copies a built dist/, for every user to read whatever root's umask was: users may not be able to read the
 * checkout, and the next build must not pull it away from under the site. */
export async function copyDist(from: string, to: string): Promise<void> {
  const names = () => readdirSync(from, { recursive: true }).length;
  for (let attempt = 0; ; attempt++) {
    try {
      const { ino } = statSync(from);
      cpSync(from, to, { recursive: true });
      // A build that finished meanwhile has put another directory in its place.
      if (statSync(from).ino === ino && readdirSync(to, { recursive: true }).length === names()) break;
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT' || attempt === 10) throw error;
    }
    rmSync(to, { recursive: true, force: true });
    await sleep(100);
  }
  for (const path of [
    to,
    ...readdirSync(to, { recursive: true, encoding: 'utf8' }).map((name) => join(to, name)),
  ])
    chmodSync(path, (statSync(path).mode & 0o100) === 0 ? 0o644 : 0o755);
}
