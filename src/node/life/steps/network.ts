// The step of the guest's addresses: a loopback port, a MAC address, an entry of the pool; whatever its
// network asks for.

import { sendDhcpRelease } from '../../../guest/network/dhcp-release.ts';
import { leaseMac, macAddress, releaseMac } from '../../../guest/network/mac.ts';
import { leasePoolEntry, releasePoolEntry } from '../../../guest/network/pool.ts';
import { leasePort, releasePort } from '../../../guest/network/port-lease.ts';
import type { PoolEntry } from '../../../node-file/config.ts';
import { makeDirectory } from '../../../util/files/files.ts';
import { type JobRecord, leaseDirectory, writeRecord } from '../../record.ts';
import type { StartingJob, Step } from './step.ts';

export const network: Step = {
  name: 'network',
  async acquire(job) {
    const { state, record, paths, config } = job;
    const { jobId } = record;
    const note = (changes: Partial<JobRecord>) => {
      Object.assign(record, changes);
      writeRecord(paths, record);
    };
    if (config.network.type === 'user') {
      // Each guest has its network to itself: nobody else could have its MAC address there.
      record.mac = macAddress(jobId);
      await leasePort(leaseDirectory(state), jobId, (port) => note({ port }));
      return;
    }
    const locks = config.network.lockDirectory;
    await job.guard.exists(locks);
    makeDirectory(locks, 0o755);
    note({ locks });
    const { static: fixed } = config.network;
    const entry =
      fixed === undefined
        ? undefined
        : leasePoolEntry(locks, fixed.pool, jobId, ({ address }) => note({ poolAddress: address }));
    if (entry?.mac === undefined) leaseMac(locks, jobId, (mac) => note({ mac }));
    else note({ mac: entry.mac });
  },
  async release({ state, record }) {
    const { jobId, port, locks, mac, poolAddress, dhcp } = record;
    if (port !== undefined) releasePort(leaseDirectory(state), jobId, port);
    if (mac !== undefined && dhcp !== undefined) await sendDhcpRelease({ mac, ...dhcp });
    if (locks === undefined) return;
    if (poolAddress !== undefined) releasePoolEntry(locks, jobId, poolAddress);
    if (mac !== undefined) releaseMac(locks, jobId, mac);
  },
};

/** What the job has leased, in the terms of the plan. */
export function leasesOf({ record, config }: Pick<StartingJob, 'record' | 'config'>): {
  port: number | undefined;
  mac: string;
  entry: PoolEntry | undefined;
} {
  const entry = config.network.static?.pool.find(({ address }) => address === record.poolAddress);
  return { port: record.port, mac: record.mac ?? macAddress(record.jobId), entry };
}
