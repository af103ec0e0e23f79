// Files that somebody was about to write when he was ended: complete or not, nobody will look at them again.
import { lstatSync } from 'node:fs';
import { uptime } from 'node:os';
import { join } from 'node:path';
import { brokenLeases } from '../../guest/network/lease.ts';
import { startTicksOf } from '../../hypervisor/guest-process.ts';
import { namesIn } from '../../util/files.ts';
import { deadClaims } from '../claim.ts';
import { leaseDirectory } from '../record.ts';

/** `NAME.PID.tmp`, as writeFileAtomic makes it; `.new-PID-TOKEN` of a lease that is being taken. */
const TEMPORARY = /(?:\.(\d+)\.tmp|^\.new-(\d+)-[0-9a-f]+)$/;
/** A process id may have come to mean another process. */
const OLD_MS = 24 * 60 * 60_000;

/** Locks without content: one that was made since the machine was started has its content. On a share, another node may just
 * have been started, but its clock is near ours. */
const BROKEN_MS = 60 * 60_000;

/** Paths of the node's own temporary files whose processes have ended, and of locks that a power cut has emptied. Folders of jobs go
 * as a whole. */
export function deadTemporaries(state: string, leaseDirectories: readonly string[]): string[] {
  const directories = [state, leaseDirectory(state), join(state, 'starts'), join(state, 'consoles')];
  return [
    ...directories.flatMap((directory) =>
      namesIn(directory)
        .filter((name) => isDead(directory, name))
        .map((name) => join(directory, name)),
    ),
    ...leaseDirectories.flatMap((directory) =>
      brokenLeases(directory, Math.max(bootTime(), Date.now() - BROKEN_MS)),
    ),
    ...deadClaims(state),
  ];
}

/** `JOBID.NONCE`, and the same again at its end while a guest writes it. */
const READY_FILE = /^[0-9][A-Za-z0-9.-]*\.([0-9a-f]{24})(\.\1)?$/;

/** Ready files that nobody can be waiting for any more, with their owners: those of jobs whose record was lost. */
export function oldReadyFiles(directory: string): { path: string; owner: { uid: number; gid: number } }[] {
  return namesIn(directory)
    .filter((name) => READY_FILE.test(name))
    .flatMap((name) => {
      const path = join(directory, name);
      const stats = lstatSync(path, { throwIfNoEntry: false });
      if (stats === undefined || stats.isDirectory() || Date.now() - stats.mtimeMs < OLD_MS) return [];
      return [{ path, owner: { uid: stats.uid, gid: stats.gid } }];
    });
}

/** Milliseconds since 1970. */
function bootTime(): number {
  return Date.now() - uptime() * 1000;
}

function isDead(directory: string, name: string): boolean {
  const [, first, second] = TEMPORARY.exec(name) ?? [];
  const pid = Number(first ?? second);
  if (!Number.isInteger(pid)) return false;
  if (startTicksOf(pid) === undefined) return true;
  const written = lstatSync(join(directory, name), { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
  return Date.now() - written > OLD_MS;
}
