// The step of the context disk; with it everything about the guest is decided.
import { contextFiles } from '../../../context/disk-files.ts';
import { buildIso } from '../../../context/iso9660.ts';
import { cacheDiskPath } from '../../../guest/disk/cache.ts';
import { removeFile, writeFileAtomic } from '../../../util/files/files.ts';
import { planGuest, siteOf } from '../../plan/plan.ts';
import { loadSiteFiles } from '../../plan/site-files.ts';
import { leasesOf } from './network.ts';
import type { PeerRole, StartingJob, Step } from './step.ts';

export const context: Step = {
  name: 'context',
  async acquire(job) {
    const { config, record, paths, request } = job;
    const now = Date.now();
    const plan = planStart(job, now);
    job.plan = plan;
    const { vcpus, memoryBytes, imageName, image } = request;
    const loaded = await loadSiteFiles(config, plan, {
      queue: record.queue,
      image: imageName,
      vcpus,
      memoryBytes,
    });
    const files = contextFiles(plan.context, siteOf(config, image, loaded));
    const iso = buildIso(files, { volumeLabel: 'cidata', modified: new Date(now) });
    writeFileAtomic(paths.contextIso, iso, 0o600);
  },
  async release({ paths }) {
    removeFile(paths.contextIso);
  },
};

function planStart(job: StartingJob, now: number) {
  const { state, config, record, paths, request, role } = job;
  const { cache } = record;
  return planGuest({
    config,
    jobId: record.jobId,
    queue: record.queue,
    nonce: record.nonce,
    account: job.account,
    request,
    wallSeconds: job.wallSeconds,
    leases: leasesOf(job),
    files: {
      overlay: paths.overlay,
      scratch: request.scratchBytes > 0 ? paths.scratch : undefined,
      cache: cache === undefined ? undefined : cacheDiskPath(state, { account: undefined, ...cache }),
      contextIso: paths.contextIso,
      console: paths.console,
    },
    readyFile: record.readyFile,
    jobKey: job.jobKey,
    hostKey: job.hostKey,
    facts: job.facts,
    time: Math.floor(now / 1000),
    ...(role === undefined ? {} : { peers: peersOf(role) }),
  });
}

function peersOf({ rank, directory, call, key }: PeerRole) {
  return { rank, count: call.count, directory, ...key };
}
