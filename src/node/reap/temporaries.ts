// Files that somebody was about to write when he was ended: complete or not, nobody will look at them again.
import { lstatSync, type Stats } from 'node:fs';
import { uptime } from 'node:os';
import { join } from 'node:path';
import { brokenLeases } from '../../guest/network/lease.ts';
import { startTicksOf } from '../../hypervisor/guest-process.ts';
import { namesIn } from '../../util/files/files.ts';
import { deadClaims } from '../claim.ts';
import { findRecord, jobIds, leaseDirectory } from '../record.ts';

/** `NAME.PID.tmp`, as writeFileAtomic makes it; `.new-PID-TOKEN` of a lease that is being taken. */
const TEMPORARY = /(?:\.(\d+)\.tmp|^\.new-(\d+)-[0-9a-f]+)$/;
/** A process id may have come to mean another process. */
const OLD_MS = 24 * 60 * 60_000;

/** Locks without content: one that was made since the machine was started has its content. On a share,
 * another node may just have been started, but its clock is near ours. */
const BROKEN_MS = 60 * 60_000;

/** Paths of the node's own temporary files whose processes have ended, and of locks that a power cut has
 * emptied. Folders of jobs go as a whole. */
export function deadTemporaries(state: string, leaseDirectories: readonly string[]): string[] {
  const names = ['starts', 'consoles', 'repeats'];
  const directories = [state, leaseDirectory(state), ...names.map((name) => join(state, name))];
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

/** Ready files that nobody can be waiting for any more, with their owners: those of jobs whose record was
 * lost.
 * @param now milliseconds since 1970 */
export function oldReadyFiles(
  state: string,
  directory: string,
  now: number,
): { path: string; owner: { uid: number; gid: number } }[] {
  const old = namesIn(directory)
    .filter((name) => READY_FILE.test(name))
    .flatMap((name) => {
      const path = join(directory, name);
      const stats = lstatSync(path, { throwIfNoEntry: false });
      if (stats === undefined || stats.isDirectory() || now - changedAt(stats) < OLD_MS) return [];
      return [{ path, owner: { uid: stats.uid, gid: stats.gid } }];
    });
  if (old.length === 0) return [];
  // After the look at the directory: a record is there before its ready file.
  const recorded = jobIds(state).flatMap((jobId) => {
    const record = findRecord(state, jobId);
    return record === undefined ? [] : [record.readyFile, `${record.readyFile}.${record.nonce}`];
  });
  return old.filter(({ path }) => !recorded.includes(path));
}

/** When a file came to be as it is. Anybody can set the time of its content, and NFS keeps a number of its
 * own there for as long as a file is being made exclusively; the time of its last change is the file system's
 * alone. */
function changedAt({ ctimeMs }: Stats): number {
  return ctimeMs;
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
  const stats = lstatSync(join(directory, name), { throwIfNoEntry: false });
  return stats !== undefined && Date.now() - changedAt(stats) > OLD_MS;
}
