// The other nodes of a job on several. TORQUE runs their prologue.parallel before the first node's prologue,
// which alone knows what the job asks for; so prologue.parallel only starts a process in the background,
// which waits for the first node's call and then makes the guest. TORQUE may also drop such a job without an
// epilogue.parallel: a shell watches whether the place where the nodes meet is still there, and ends the
// guest when it is gone.
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { answerCall, UNCALLED } from '../../guest/peer-answers.ts';
import { startHeartbeat } from '../../guest/peer-life.ts';
import { peerJobId, peersDirectory, preparePeers, waitForCall } from '../../guest/peers.ts';
import { checkReadyDirectory } from '../../guest/ready/ready.ts';
import { describeShare } from '../../guest/share/describe.ts';
import { checkShare, openShareGuard } from '../../guest/share/guard.ts';
import { checkMounted } from '../../guest/share/mounted.ts';
import { findAccount } from '../../util/accounts/account.ts';
import { toVmbatchError, VmbatchError } from '../../util/errors.ts';
import { startInBackground } from '../background.ts';
import { type PrologueOptions, startGuest } from '../life/start.ts';
import { jobPaths, WATCHER } from '../record.ts';

/** How long the first node may take to begin its prologue: TORQUE waits for all other nodes before. */
const CALL_MS = 300_000;

/** Makes the place on the share where the nodes meet, without what an earlier start of the job left there:
 * the first node comes after all others have been here. */
export async function prepareMeeting(options: Pick<PrologueOptions, 'config' | 'hook'>): Promise<void> {
  const { config, hook } = options;
  const account = await findAccount(hook.user);
  const directory = peersDirectory(config.readyDirectory, hook.jobId);
  const guard = openShareGuard(describeShare(config.share), config.timeouts.shareMs);
  try {
    await checkShare(guard, describeShare(config.share), config.share.path);
    await checkMounted(config);
    checkReadyDirectory(config.readyDirectory);
    await preparePeers(directory, account);
  } finally {
    guard.close();
  }
}

/** Makes the guest of another node than the first, and tells the first node how it went.
 * @param options with the job's own id, as TORQUE has it
 * @param watcher what the watching shell is to run when the job is over without an epilogue.parallel
 * @throws VmbatchError what went wrong; the first node knows it then */
export async function startPeer(
  options: Omit<PrologueOptions, 'peers'>,
  rank: number,
  watcher: readonly string[],
): Promise<void> {
  const { config, hook, signal } = options;
  const account = await findAccount(hook.user);
  const directory = peersDirectory(config.readyDirectory, hook.jobId);
  const guard = openShareGuard(describeShare(config.share), config.timeouts.shareMs);
  const jobId = peerJobId(hook.jobId, rank);
  const heartbeat = startHeartbeat(directory, account, rank);
  let nonce = UNCALLED;
  try {
    const waiting = { guard, uid: account.uid, deadlineMs: CALL_MS, signal };
    try {
      const call = await waitForCall(directory, hook.jobId, waiting);
      nonce = call.nonce;
      if (rank >= call.count)
        throw new VmbatchError({
          fault: 'node',
          code: 'peer-failed',
          message: `this is node ${rank} of a job on ${call.count} nodes`,
          jobId,
        });
      const peers = { rank, directory, call, heartbeat };
      await startGuest({ ...options, hook: { ...hook, jobId }, peers });
    } catch (thrown) {
      const error = toVmbatchError(thrown, 'node').message.slice(0, 2000);
      const answer = { version: 1 as const, nonce, node: hostname(), error };
      if (await guard.exists(directory)) await answerCall(directory, account, rank, answer, heartbeat);
      throw thrown;
    }
    // Between the last look of ours and the first of the watcher nothing can be missed: it looks first.
    if (existsSync(jobPaths(config.state, jobId).directory))
      await startInBackground('/bin/sh', [
        '-c',
        WATCH,
        WATCHER,
        directory,
        jobPaths(config.state, jobId).directory,
        ...watcher,
      ]);
  } finally {
    await heartbeat.stop();
    guard.close();
  }
}

/** A shell that sleeps costs a hundredth of a Node that does. Looks for the place on the share, and for the
 * job's record here. */
const WATCH =
  'share=$1 job=$2; shift 2; while [ -d "$share" ]; do sleep 5; [ -d "$job" ] || exit 0; done; exec "$@"';
