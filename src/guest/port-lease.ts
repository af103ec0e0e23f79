// Loopback ports of the node that lead to guests on QEMU's user network: one lock file a port.
import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { errnoOf, VmbatchError } from '../util/errors.ts';
import { removeFile } from '../util/files.ts';

// Below the range from which Linux gives out ports by itself (32768 on).
const FIRST_PORT = 22_000;
const LAST_PORT = 31_999;

/** A port that nobody holds or listens on. `onCandidate` is told each port before its lock file is made, so
 * that the journal knows of it first.
 * @throws VmbatchError `node` when all are taken. */
export async function leasePort(
  directory: string,
  jobId: string,
  onCandidate: (port: number) => void,
): Promise<number> {
  const taken = new Set(readdirSync(directory));
  // Starting anywhere keeps simultaneous starts out of each other's way.
  const span = LAST_PORT - FIRST_PORT + 1;
  const start = Math.floor(Math.random() * span);
  for (let step = 0; step < span; step++) {
    const port = FIRST_PORT + ((start + step) % span);
    if (taken.has(leaseName(port)) || !(await canListen(port))) continue;
    onCandidate(port);
    if (writeLease(join(directory, leaseName(port)), jobId)) return port;
  }
  throw new VmbatchError({
    fault: 'node',
    code: 'ports-exhausted',
    message: `no free port between ${FIRST_PORT} and ${LAST_PORT} for the guest of job ${jobId}`,
    hint: `leases are in ${directory}`,
    jobId,
  });
}

/** Gives back a port if it is this job's; no error if it is not. */
export function releasePort(directory: string, jobId: string, port: number): void {
  const path = join(directory, leaseName(port));
  try {
    if (readFileSync(path, 'utf8') !== jobId) return;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  removeFile(path);
}

function leaseName(port: number): string {
  return `port-${port}`;
}

function writeLease(path: string, jobId: string): boolean {
  let fd: number;
  try {
    fd = openSync(path, 'wx', 0o600);
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    throw error;
  }
  writeSync(fd, jobId);
  closeSync(fd);
  return true;
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}
