// Leases of things of which there is one: loopback ports, MAC and IP addresses. A lock file each, in a
// directory that may lie on a share and serve several nodes; its name is the thing, its content says whose it
// is.
import { linkSync, lstatSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import * as z from 'zod';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import { namesIn, removeFile } from '../../util/files/files.ts';
import { randomToken } from '../../util/random-token.ts';

const HOLDER = z.object({
  jobId: z.string().max(256),
  /** The worker node, by its host name. */
  node: z.string().max(256),
  /** Milliseconds since 1970. */
  since: z.number(),
});
export type LeaseHolder = z.infer<typeof HOLDER>;

export interface Lease extends LeaseHolder {
  /** `port-22001`, `address-192.0.2.7`, `mac-52-54-…`. */
  name: string;
}

const TEMPORARY = '.new-';
/** What our locks are called; the admin may have other files there. */
const LOCK = /^(port|mac|address|cache)-/;

/** Takes a lease, unless another job has it. Two takers never both succeed, and a lock is never seen without
 * its content: it is a link to a file that is complete already.
 * @returns whether it is this job's now; also if it was before
 * @throws VmbatchError `node` (`lease-directory`) if locks cannot be made there */
export function takeLease(directory: string, name: string, jobId: string): boolean {
  const holder: LeaseHolder = { jobId, node: hostname(), since: Date.now() };
  const temporary = join(directory, `${TEMPORARY}${process.pid}-${randomToken(8)}`);
  try {
    writeFileSync(temporary, JSON.stringify(holder), { mode: 0o600, flag: 'wx' });
    try {
      linkSync(temporary, join(directory, name));
      return true;
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
      return readLease(directory, name)?.jobId === jobId;
    }
  } catch (error) {
    throw new VmbatchError({
      fault: 'node',
      code: 'lease-directory',
      message: `no lock can be made in ${directory} (${errnoOf(error) ?? String(error)})`,
      hint: 'root of this node must be able to write there; on a share, without root_squash',
      cause: error,
    });
  } finally {
    removeFile(temporary);
  }
}

/** Gives a lease back if it is this job's; no error if it is not. */
export function releaseLease(directory: string, name: string, jobId: string): void {
  if (readLease(directory, name)?.jobId === jobId) removeFile(join(directory, name));
}

/** Who holds it; undefined if nobody does, or if the lock is none of ours. */
export function readLease(directory: string, name: string): LeaseHolder | undefined {
  let text: string;
  try {
    text = readFileSync(join(directory, name), 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return HOLDER.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** All leases of a directory, for whoever looks for those of dead jobs. */
export function listLeases(directory: string): Lease[] {
  return namesIn(directory)
    .filter((name) => !name.startsWith(TEMPORARY))
    .flatMap((name) => {
      const holder = readLease(directory, name);
      return holder === undefined ? [] : [{ name, ...holder }];
    });
}

/** Locks that say nothing, though none is ever made so: what a power cut has left of them. Only old ones, as
 * paths.
 * @param before milliseconds since 1970 */
export function brokenLeases(directory: string, before: number): string[] {
  return namesIn(directory)
    .filter((name) => LOCK.test(name) && readLease(directory, name) === undefined)
    .map((name) => join(directory, name))
    .filter((path) => (lstatSync(path, { throwIfNoEntry: false })?.mtimeMs ?? before) < before);
}
