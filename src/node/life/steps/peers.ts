// The step of a job on several nodes: the place on the share where they meet.
import { randomBytes } from 'node:crypto';
import { lookAtPeers } from '../../../guest/peer-answers.ts';
import { LifeWatch } from '../../../guest/peer-life.ts';
import { callPeers, dismissPeers, whilePeersFare } from '../../../guest/peers.ts';
import { openShareGuard } from '../../../guest/share/guard.ts';
import { writeRecord } from '../../record.ts';
import type { StartingJob, Step } from './step.ts';

/** Waits, but on the first node of a job on several no longer than until another node's guest has failed. */
export function whileOthersFare<T>(job: StartingJob, wait: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { role, guard, account, signal } = job;
  if (role === undefined || role.rank > 0) return wait(signal);
  return whilePeersFare(
    role.directory,
    role.call,
    role.nodes.names,
    { guard, uid: account.uid, signal, life: role.life },
    wait,
  );
}

export const peers: Step = {
  name: 'peers',
  wanted: ({ role }) => role !== undefined,
  async acquire({ role, record, paths, account, guard }) {
    if (role === undefined) return;
    const { directory } = role;
    record.peers = { directory, rank: role.rank };
    writeRecord(paths, record);
    if (role.rank > 0) return;
    role.call.nonce = randomBytes(8).toString('hex');
    role.life = new LifeWatch();
    await guard.exists(directory);
    await lookAtPeers(directory, role.call, role.nodes.names, {
      guard,
      uid: account.uid,
      life: role.life,
    });
    await callPeers(directory, account, role.call);
  },
  async release({ record }) {
    const { peers: place, uid, gid } = record;
    // The first node's: with it the others know that the job is over.
    if (place === undefined || place.rank > 0) return;
    const guard = openShareGuard(
      record.share?.name ?? place.directory,
      record.share?.lookMs ?? record.undoMs,
    );
    try {
      if (await guard.exists(place.directory)) await dismissPeers(place.directory, { uid, gid });
    } finally {
      guard.close();
    }
  },
};
