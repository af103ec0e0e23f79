// The steps around a guest's word that it is ready: the place for it, the wait for it, and what the job
// starter gets then.
import { statSync } from 'node:fs';
import { hostname as nodeName } from 'node:os';
import { loginOf } from '../../../context/guest-context.ts';
import { discoverAddress } from '../../../guest/network/discover.ts';
import { checkReportedAddress } from '../../../guest/network/plan.ts';
import { answerCall } from '../../../guest/peer-answers.ts';
import { guestNodeFile, waitForAnswers } from '../../../guest/peers.ts';
import {
  checkReadyDirectory,
  type ReadyReport,
  type WaitOptions,
  waitForReadyFile,
  waitForReport,
} from '../../../guest/ready/ready.ts';
import { removeSession, sessionPaths, writeSession } from '../../../guest/session/session-file.ts';
import { clockProblem } from '../../../guest/share/clock.ts';
import { describeShare } from '../../../guest/share/describe.ts';
import { checkShare, openShareGuard } from '../../../guest/share/guard.ts';
import { checkMounted } from '../../../guest/share/mounted.ts';
import { processRuns } from '../../../hypervisor/guest-process.ts';
import { removeUsersFile } from '../../../util/accounts/as-user.ts';
import { printable } from '../../../util/log.ts';
import { ownAddresses } from '../../../util/own-addresses.ts';
import { endTurn } from '../../admission/turn.ts';
import { guestServiceFailure } from '../../console/tail.ts';
import { writeRecord } from '../../record.ts';
import { watchForTrouble } from './guest-trouble.ts';
import { whileOthersFare } from './peers.ts';
import type { PeerRole, StartingJob, Step } from './step.ts';

/** The guest's word on the share. Reserved before the guest starts and removed after it is gone, so that no
 * guest can put it back; and last of all, since a share may hang. */
export const readyFile: Step = {
  name: 'ready-file',
  async acquire({ config, guard }) {
    await checkShare(guard, describeShare(config.share), config.share.path);
    await checkMounted(config);
    if (config.readyChannel !== 'file') return;
    await guard.exists(config.readyDirectory);
    checkReadyDirectory(config.readyDirectory);
  },
  async release({ record }) {
    const guard = openShareGuard(
      record.share?.name ?? record.readyFile,
      record.share?.lookMs ?? record.undoMs,
    );
    try {
      // What does not come back from here would not come back from the removal either. The guest may have
      // been destroyed between its temporary name and the rename.
      for (const path of [record.readyFile, `${record.readyFile}.${record.nonce}`]) {
        if (!(await guard.exists(path))) continue;
        await removeUsersFile(path, { uid: record.uid, gid: record.gid }, record.share?.lookMs);
      }
    } finally {
      guard.close();
    }
  },
};

/** Waits only: what it waits for belongs to the steps before. */
export const boot: Step = {
  name: 'boot',
  // A job on several nodes starts when all of them are ready, whatever the mode.
  wanted: ({ config, role }) => config.prologueMode === 'ready' || role !== undefined,
  async acquire(job) {
    const { record, paths } = job;
    const report = await whileOthersFare(job, (signal) => waitForGuest({ ...job, signal }));
    if (record.ticket !== undefined) endTurn(job.state, record.ticket);
    if (job.config.readyChannel === 'file') await noteClock(job);
    const { hostname, kernel, bootId, vcpus, memoryKiB, system, notes } = report;
    record.guest = { hostname, kernel, bootId, vcpus, memoryKiB, system };
    if (notes !== undefined) record.guest.notes = printable(notes);
    if (job.role !== undefined) await meetPeers(job, job.role, hostname);
    if (job.config.network.type === 'user') return;
    if (job.plan?.network.host === undefined) {
      checkReportedAddress(report.address, job.config.network, ownAddresses(), record.jobId);
      record.address = report.address;
    }
    if (report.dhcpServer !== undefined) record.dhcp = { address: report.address, server: report.dhcpServer };
    writeRecord(paths, record);
  },
  async release() {},
};

/** The guest has just written its ready file: the time that the share gave it is compared with ours. */
async function noteClock({ record, config, guard, log }: StartingJob): Promise<void> {
  if (!(await guard.exists(record.readyFile))) return;
  const changed = statSync(record.readyFile, { throwIfNoEntry: false })?.ctimeMs;
  if (changed === undefined) return;
  const problem = clockProblem(describeShare(config.share), changed, record.startedAt);
  if (problem !== undefined) log.write('warn', problem);
}

/** The first node waits for the others; they say that their guests are ready. */
async function meetPeers(job: StartingJob, role: PeerRole, hostname: string): Promise<void> {
  const { rank, directory, call, nodes } = role;
  if (rank > 0) {
    const answer = { version: 1 as const, nonce: call.nonce, node: nodeName(), hostname };
    await answerCall(directory, job.account, rank, answer, role.heartbeat);
    return;
  }
  const others = await waitForAnswers(directory, call, nodes.names, {
    guard: job.guard,
    uid: job.account.uid,
    deadlineMs: job.remainingMs(),
    signal: job.signal,
    life: role.life,
  });
  role.hostnames = [hostname, ...others.slice(1)];
}

async function waitForGuest(job: StartingJob): Promise<ReadyReport> {
  const over = new AbortController();
  try {
    return await waitForWord(job, over.signal);
  } finally {
    over.abort();
  }
}

/** @param over aborted when the wait is over, however it ended */
async function waitForWord(job: StartingJob, over: AbortSignal): Promise<ReadyReport> {
  const { record, config, paths, hostKey, jobKey, account, guest, plan, hypervisor } = job;
  const { jobId, nonce } = record;
  const expected = { jobId, nonce, hostKey: hostKey.publicKey };
  const trouble = watchForTrouble(hypervisor, record.domain, job.state, { signal: over });
  const options: WaitOptions = {
    deadlineMs: Math.min(config.timeouts.readyMs, job.remainingMs()),
    signal: job.signal,
    givenUp: () => {
      if (guest !== undefined && !processRuns(guest)) return 'the guest died while it started';
      const failure = guestServiceFailure(paths.console);
      return failure === undefined ? trouble() : `the guest could not make itself ready: ${failure}`;
    },
  };
  if (config.readyChannel === 'file')
    return waitForReadyFile(
      { ...expected, path: record.readyFile, ownerUid: account.uid },
      job.guard,
      options,
    );
  const { askByAgent, askBySsh } = await import('../../../guest/ready/channels.ts');
  if (config.readyChannel === 'agent') {
    const look = () => askByAgent(hypervisor, record.domain, expected);
    return waitForReport(
      look,
      { what: 'did not say through its agent that it is ready', jobId },
      { ...options, intervalMs: 500 },
    );
  }
  let host = plan?.network.host;
  const connection = async () => {
    host ??= await discoverAddress({
      hypervisor,
      domain: record.domain,
      mac: record.mac ?? '',
      deadlineMs: options.deadlineMs,
      signal: job.signal,
    });
    return {
      host,
      port: plan?.network.port ?? 22,
      user: loginOf(plan?.context.user.name ?? account.name),
      otherUser: plan?.context.user.name ?? account.name,
      privateKey: jobKey.privateKey,
      hostKey: hostKey.publicKey,
      timeoutMs: 5_000,
      heartbeatMs: config.timeouts.heartbeatMs,
    };
  };
  return waitForReport(
    () => askBySsh(connection, expected),
    { what: 'did not answer over SSH that it is ready', jobId },
    { ...options, intervalMs: 200 },
  );
}

/** Seconds for the site's hook after the job. */
const AFTER_JOB_SECONDS = 60;

export const session: Step = {
  name: 'session',
  async acquire({ config, state, record, account, jobKey, hostKey, guest, plan, request, role }) {
    const isAwaited = config.prologueMode === 'started' && role === undefined;
    writeSession(
      sessionPaths(state, record.jobId),
      {
        version: 1,
        jobId: record.jobId,
        host: plan?.network.host ?? record.address ?? '',
        port: plan?.network.port ?? 22,
        user: plan?.context.user.name ?? account.name,
        login: loginOf(plan?.context.user.name ?? account.name),
        privateKey: jobKey.privateKey,
        hostKey: hostKey.publicKey,
        loginShell: account.shell,
        ...(guest === undefined ? {} : { guest }),
        connectMs: config.timeouts.sshConnectMs,
        reconnectMs: config.timeouts.reconnectMs,
        heartbeatMs: config.timeouts.heartbeatMs,
        ...(record.guest === undefined ? {} : { bootId: record.guest.bootId }),
        environment: {
          MACHINEFEATURES: '/etc/machinefeatures',
          JOBFEATURES: '/etc/jobfeatures',
          ...(request.scratchBytes > 0 ? { VMBATCH_SCRATCH: config.disk.scratch.path } : {}),
        },
        ...(role?.hostnames === undefined
          ? {}
          : { nodeFile: guestNodeFile(role.hostnames, role.nodes.slots) }),
        afterJobSeconds: config.context.afterJob === undefined ? 0 : AFTER_JOB_SECONDS,
        ...(isAwaited
          ? {
              awaited: {
                readyFile: config.readyChannel === 'file' ? record.readyFile : undefined,
                nonce: record.nonce,
                until: Date.now() + config.timeouts.readyMs,
                addressUnknown: plan?.network.host === undefined,
                share: { name: describeShare(config.share), lookMs: config.timeouts.shareMs },
              },
            }
          : {}),
      },
      account,
    );
  },
  async release({ state, record }) {
    removeSession(sessionPaths(state, record.jobId));
  },
};
