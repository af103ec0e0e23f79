// Following TORQUE's server logs: a file a day, which may be moved away, cut off or appear late, maybe on
// NFS.
import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../../../util/errors.ts';
import { findLogEvents, type LogEvent } from './server-log.ts';

/** How far a file was read: up to the end of a line. */
export interface LogPosition {
  /** `20261122`, or `20261122.1` if the server moves full files away. */
  name: string;
  inode: number;
  offset: number;
}

export interface FollowerOptions {
  /** `pbs_log_path`. */
  directory: string;
  /** Where an earlier follower stopped; undefined: every file that was written to after `since` is read. */
  positions?: readonly LogPosition[] | undefined;
  /** Epoch milliseconds. */
  since: number;
}

/** What a look at the logs gave. */
export interface LogReading {
  events: LogEvent[];
  /** More is there already: look again at once. */
  more: boolean;
  /** Why the logs cannot be relied on now; undefined if they can. */
  problem: string | undefined;
}

const BLOCK_BYTES = 1024 * 1024;

/** One look reads no more, so that a huge backlog keeps neither signals nor jobs waiting. */
const LOOK_BYTES = 4 * 1024 * 1024;

/** Milliseconds between listings of the folder. Over NFS its time of change may be old news. */
const LIST_MS = 5_000;

/** Milliseconds after which a file that is not the newest is left, if nothing more came. */
const LEAVE_MS = 10 * 60_000;

interface FollowedFile extends LogPosition {
  grewAt: number;
}

/** Polled, without waiting for anything: opening a file is what makes an NFS client look for new bytes. */
export class ServerLogFollower {
  readonly #directory: string;
  readonly #since: number;
  #files: FollowedFile[];
  #listedAt = Number.NEGATIVE_INFINITY;
  #listedMtime = 0;
  #newestWrite = 0;
  #buffer: Buffer | undefined;

  constructor({ directory, positions, since }: FollowerOptions) {
    this.#directory = directory;
    this.#since = since;
    this.#files = (positions ?? []).map((position) => ({ ...position, grewAt: Date.now() }));
  }

  /** For the next follower. Everything before it was handed out. */
  get positions(): LogPosition[] {
    return this.#files.map(({ name, inode, offset }) => ({ name, inode, offset }));
  }

  /** Epoch milliseconds of the last change to the newest file. */
  get newestWrite(): number {
    return this.#newestWrite;
  }

  /** Everything that came since the last look. */
  look(now = Date.now()): LogReading {
    const reading: LogReading = { events: [], more: false, problem: undefined };
    try {
      this.#list(now, false);
      let budget = LOOK_BYTES;
      for (const file of [...this.#files]) {
        const read = this.#read(file, now, budget, reading);
        if (read === 'moved') {
          // The file that was followed has another name now, and a new one stands in its place.
          this.#list(now, true);
          reading.more = true;
          return reading;
        }
        budget -= read;
        if (budget <= 0) {
          reading.more = true;
          return reading;
        }
      }
      const newest = this.#files.at(-1);
      this.#files = this.#files.filter((file) => file === newest || now - file.grewAt < LEAVE_MS);
      if (newest === undefined) reading.problem = `${this.#directory}: has no server logs`;
    } catch (error) {
      const path = error instanceof Error && 'path' in error ? String(error.path) : this.#directory;
      reading.problem = `${path}: cannot be read (${errnoOf(error) ?? 'unknown error'})`;
    }
    return reading;
  }

  /** Finds files that appeared, and those that were moved away. */
  #list(now: number, force: boolean): void {
    const { mtimeMs } = statSync(this.#directory);
    if (!force && mtimeMs === this.#listedMtime && now - this.#listedAt < LIST_MS) return;
    const present = readdirSync(this.#directory)
      .filter((name) => /^\d{8}(\.\d{1,4})?$/.test(name) && name.slice(0, 8) >= this.#oldestDay())
      .flatMap((name) => {
        const stats = statSync(join(this.#directory, name), { throwIfNoEntry: false });
        return stats === undefined ? [] : [{ name, inode: stats.ino, mtimeMs: stats.mtimeMs }];
      })
      .sort((one, other) => orderOf(one.name) - orderOf(other.name));
    const followed = present.flatMap(({ name, inode }) => {
      const file = this.#files.find((candidate) => candidate.inode === inode);
      return file === undefined ? [] : [{ ...file, name }];
    });
    // Files that were left earlier must not come back; newer ones are read from their beginning.
    const newest = Math.max(
      ...(followed.length > 0 ? followed : this.#files).map(({ name }) => orderOf(name)),
    );
    const isNew = ({ name, mtimeMs }: (typeof present)[number]) =>
      newest === Number.NEGATIVE_INFINITY
        ? mtimeMs >= this.#since
        : orderOf(name) > newest || (followed.length === 0 && orderOf(name) === newest);
    const added = present.filter(isNew);
    // Without anything newer than `since`, the last file is where the next lines will come.
    if (followed.length === 0 && added.length === 0) added.push(...present.slice(-1));
    this.#files = [...followed, ...added.map(({ name, inode }) => ({ name, inode, offset: 0, grewAt: now }))];
    this.#listedAt = now;
    this.#listedMtime = mtimeMs;
  }

  #oldestDay(): string {
    return this.#files[0]?.name.slice(0, 8) ?? '';
  }

  /** @returns bytes that were read, or that another file has this name now */
  #read(file: FollowedFile, now: number, budget: number, reading: LogReading): number | 'moved' {
    const fd = openSync(join(this.#directory, file.name), constants.O_RDONLY | constants.O_NONBLOCK);
    let total = 0;
    try {
      const { ino, size, mtimeMs } = fstatSync(fd);
      if (ino !== file.inode) return 'moved';
      this.#newestWrite = Math.max(this.#newestWrite, mtimeMs);
      // Cut off: what stands there now was not read yet.
      if (size < file.offset) file.offset = 0;
      this.#buffer ??= Buffer.allocUnsafe(BLOCK_BYTES);
      while (file.offset < size && total < budget) {
        const length = readSync(fd, this.#buffer, 0, Math.min(BLOCK_BYTES, size - file.offset), file.offset);
        const end = this.#buffer.subarray(0, length).lastIndexOf(0x0a) + 1;
        // A line longer than a block is none of the server's: go over it. A part of a line waits for the
        // rest.
        const used = end === 0 && length === BLOCK_BYTES ? length : end;
        if (used === 0) break;
        reading.events.push(...findLogEvents(this.#buffer.subarray(0, end)));
        file.offset += used;
        file.grewAt = now;
        total += used;
      }
      return total;
    } finally {
      closeSync(fd);
    }
  }
}

/** `20261122.2` is older than `20261122.1`, and that than `20261122`. */
function orderOf(name: string): number {
  const [day = '', moved = '0'] = name.split('.');
  return Number(day) * 10_000 - Number(moved);
}
