// The steps of the guest's disks: the overlay on its image, the job's scratch disk, the cache disk that
// outlives it.
import { chmodSync } from 'node:fs';
import { leaseCacheDisk, releaseCacheDisk } from '../../../guest/disk/cache.ts';
import { createOverlay } from '../../../guest/disk/overlay.ts';
import { createSparseFile } from '../../../guest/disk/scratch.ts';
import { resolveBacking } from '../../../image/layer/backing.ts';
import { removeFile } from '../../../util/files/files.ts';
import { leaseDirectory, writeRecord } from '../../record.ts';
import type { Step } from './step.ts';

export const overlay: Step = {
  name: 'overlay',
  async acquire({ run, state, request, paths }) {
    await createOverlay(run, resolveBacking(state, request.image), paths.overlay);
    chmodSync(paths.overlay, 0o600);
  },
  async release({ paths }) {
    removeFile(paths.overlay);
  },
};

export const scratch: Step = {
  name: 'scratch',
  wanted: ({ request }) => request.scratchBytes > 0,
  async acquire({ request, paths }) {
    createSparseFile(paths.scratch, request.scratchBytes);
  },
  async release({ paths }) {
    removeFile(paths.scratch);
  },
};

export const cache: Step = {
  name: 'cache',
  wanted: ({ config }) => config.disk.cacheBytes !== undefined,
  async acquire({ state, config, record, paths, request, account }) {
    leaseCacheDisk(
      {
        state,
        leases: leaseDirectory(state),
        image: request.imageName,
        account: account.uid,
        bytes: config.disk.cacheBytes ?? 0,
        jobId: record.jobId,
      },
      (disk) => {
        record.cache = disk;
        writeRecord(paths, record);
      },
    );
  },
  async release({ state, record }) {
    // Only the lock: the disk is for the next guest.
    const { cache: disk, jobId } = record;
    if (disk !== undefined) releaseCacheDisk(leaseDirectory(state), { account: undefined, ...disk }, jobId);
  },
};
