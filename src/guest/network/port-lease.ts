// Loopback ports of the node that lead to guests on QEMU's user network.
import { readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { VmbatchError } from '../../util/errors.ts';
import { releaseLease, takeLease } from './lease.ts';

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
    if (takeLease(directory, leaseName(port), jobId)) return port;
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
  releaseLease(directory, leaseName(port), jobId);
}

function leaseName(port: number): string {
  return `port-${port}`;
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}
