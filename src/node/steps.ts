// What a guest is made of, as a table: each step with its undo. Prologue, epilogue and whoever cleans up later
// use the same table. An undo works from the record alone, may be run twice, and leaves alone what is not the
// job's.
import { chmodSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeConfig } from '../config/node.ts';
import { type GuestContext, renderContextScript } from '../context/guest-context.ts';
import { buildIso } from '../context/iso9660.ts';
import type { KeyPair } from '../context/keys.ts';
import { macAddress } from '../guest/network/mac.ts';
import { hostnameOf } from '../guest/network/plan.ts';
import { leasePort, releasePort } from '../guest/network/port-lease.ts';
import { createOverlay } from '../guest/overlay.ts';
import { checkReadyDirectory, waitForReadyFile } from '../guest/ready.ts';
import type { ResolvedGuestRequest } from '../guest/request.ts';
import { removeSession, sessionPaths, writeSession } from '../guest/session-file.ts';
import { chooseDomainType } from '../hypervisor/domain-type.ts';
import { renderDomainXml } from '../hypervisor/domain-xml.ts';
import { findGuestProcess, processRuns } from '../hypervisor/guest-process.ts';
import type { GuestProcess, Hypervisor } from '../hypervisor/port.ts';
import type { Account } from '../util/account.ts';
import { asUser } from '../util/as-user.ts';
import { removeFile, writeFileAtomic } from '../util/files.ts';
import type { Run } from '../util/run.ts';
import { guestServiceFailure } from './console.ts';
import { mountsOf, networkOf } from './guest-view.ts';
import { type JobPaths, type JobRecord, leaseDirectory, type StepName, writeRecord } from './record.ts';

/** What an undo has to go by. */
export interface RecordedJob {
  /** The node's state directory. */
  state: string;
  paths: JobPaths;
  record: JobRecord;
  hypervisor: Hypervisor;
}

/** What a step may use besides. */
export interface StartingJob extends RecordedJob {
  config: NodeConfig;
  run: Run;
  account: Account;
  request: ResolvedGuestRequest;
  jobKey: KeyPair;
  hostKey: KeyPair;
  signal: AbortSignal;
  /** Milliseconds that are left until a start must be given up. */
  remainingMs: () => number;
  /** Set by the step `domain`. */
  guest: GuestProcess | undefined;
}

export interface Step {
  name: StepName;
  acquire(job: StartingJob): Promise<void>;
  release(job: RecordedJob): Promise<void>;
}

const port: Step = {
  name: 'port',
  async acquire({ state, record, paths }) {
    await leasePort(leaseDirectory(state), record.jobId, (candidate) => {
      record.port = candidate;
      writeRecord(paths, record);
    });
  },
  async release({ state, record }) {
    if (record.port !== undefined) releasePort(leaseDirectory(state), record.jobId, record.port);
  },
};

const overlay: Step = {
  name: 'overlay',
  async acquire({ run, request, paths }) {
    await createOverlay(run, request.image.path, paths.overlay);
    chmodSync(paths.overlay, 0o600);
  },
  async release({ paths }) {
    removeFile(paths.overlay);
  },
};

const context: Step = {
  name: 'context',
  async acquire({ config, record, paths, account, request, jobKey, hostKey }) {
    const now = Date.now();
    const guestContext: GuestContext = {
      jobId: record.jobId,
      nonce: record.nonce,
      hostname: hostnameOf(record.jobId),
      user: account,
      network: networkOf(config),
      mounts: mountsOf(config),
      repositories: request.repositories,
      readyFile: record.readyFile,
      hostKey: hostKey.privateKey,
      authorizedKey: jobKey.publicKey,
      time: Math.floor(now / 1000),
    };
    const files = [{ path: 'context.sh', data: renderContextScript(guestContext) }];
    const iso = buildIso(files, { volumeLabel: 'cidata', modified: new Date(now) });
    writeFileAtomic(paths.contextIso, iso, 0o600);
  },
  async release({ paths }) {
    removeFile(paths.contextIso);
  },
};

const domain: Step = {
  name: 'domain',
  async acquire(job) {
    const { config, record, paths, request } = job;
    const type = chooseDomainType(config.hypervisor.type);
    const xml = renderDomainXml({
      name: record.domain,
      type,
      vcpus: request.vcpus,
      memoryBytes: request.memoryBytes,
      boot: request.image.boot,
      machine: undefined,
      cpu: undefined,
      xenMode: 'pvh',
      disks: [{ file: paths.overlay, format: 'qcow2', role: 'root' }],
      contextIso: paths.contextIso,
      consoleLog: paths.console,
      network: { type: 'user', mac: macAddress(record.jobId), forwardedPort: record.port ?? 0 },
      filesystems: [],
      agent: false,
      tuning: {
        cpus: undefined,
        numaNodes: undefined,
        hugepageBytes: undefined,
        cpuShares: undefined,
        ioWeight: undefined,
        partition: undefined,
      },
    });
    writeFileAtomic(paths.domainXml, xml, 0o600);
    writeFileSync(paths.console, '', { mode: 0o600 });
    record.hypervisor = type;
    await job.hypervisor.create(paths.domainXml, job.remainingMs());
    job.guest = findGuestProcess(record.domain);
  },
  async release({ hypervisor, record, paths }) {
    await hypervisor.destroy(record.domain);
    // Whoever asked libvirt for it was killed before the answer: libvirt may be about to make it.
    for (let looks = 0; looks < 6 && record.steps.domain === 'acquiring' && wasKilled(record); looks++) {
      await sleep(500);
      await hypervisor.destroy(record.domain);
    }
    removeFile(paths.domainXml);
    removeFile(paths.console);
  },
};

/** The guest's word on the share. Reserved before the guest starts and removed after it is gone, so that no guest
 * can put it back; and last of all, since a share may hang. */
const readyFile: Step = {
  name: 'ready-file',
  async acquire({ config }) {
    checkReadyDirectory(config.readyDirectory);
  },
  async release({ record }) {
    // The user's file, on a share where root may be nobody: so as that user. The guest may have been
    // destroyed between its temporary name and the rename.
    asUser({ uid: record.uid, gid: record.gid }, () => {
      removeFile(record.readyFile);
      removeFile(`${record.readyFile}.${record.nonce}`);
    });
  },
};

/** Waits only: what it waits for belongs to the steps before. */
const boot: Step = {
  name: 'boot',
  async acquire(job) {
    const { record, paths, hostKey, account, guest } = job;
    const report = await waitForReadyFile(
      {
        path: record.readyFile,
        jobId: record.jobId,
        nonce: record.nonce,
        ownerUid: account.uid,
        hostKey: hostKey.publicKey,
      },
      {
        deadlineMs: Math.min(job.config.timeouts.readyMs, job.remainingMs()),
        signal: job.signal,
        givenUp: () => {
          if (guest !== undefined && !processRuns(guest)) return 'the guest died while it started';
          const failure = guestServiceFailure(paths.console);
          return failure && `the guest could not make itself ready: ${failure}`;
        },
      },
    );
    const { hostname, kernel, bootId, vcpus, memoryKiB, system } = report;
    record.guest = { hostname, kernel, bootId, vcpus, memoryKiB, system };
  },
  async release() {},
};

const session: Step = {
  name: 'session',
  async acquire({ config, state, record, account, jobKey, hostKey, guest }) {
    writeSession(
      sessionPaths(state, record.jobId),
      {
        version: 1,
        jobId: record.jobId,
        host: '127.0.0.1',
        port: record.port ?? 0,
        user: account.name,
        privateKey: jobKey.privateKey,
        hostKey: hostKey.publicKey,
        loginShell: account.shell,
        ...(guest === undefined ? {} : { guest }),
        connectMs: config.timeouts.sshConnectMs,
        reconnectMs: config.timeouts.reconnectMs,
        heartbeatMs: config.timeouts.heartbeatMs,
        ...(record.guest === undefined ? {} : { bootId: record.guest.bootId }),
        environment: {},
        afterJobSeconds: 0,
      },
      account,
    );
  },
  async release({ state, record }) {
    removeSession(sessionPaths(state, record.jobId));
  },
};

/** In the order of STEP_NAMES. */
export const STEPS: readonly Step[] = [readyFile, port, overlay, context, domain, boot, session];

function wasKilled(record: JobRecord): boolean {
  return !processRuns(record.prologue);
}
