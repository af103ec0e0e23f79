// Mistakes on another node than the first of a job: what the first node's log says, where the admin looks
// first.

import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { answerCall } from '../../src/guest/peer-answers.ts';
import { startHeartbeat } from '../../src/guest/peer-life.ts';
import { type Call, peersDirectory } from '../../src/guest/peers.ts';
import { FAULT_OUTCOMES, formatError, toVmbatchError } from '../../src/util/errors.ts';
import { NOBODY } from '../support/fake-hooks.ts';
import { type FakeNode, fakeNode } from '../support/fake-node.ts';
import { readIfThere } from '../support/files.ts';
import { type Mistake, mistakes, type Sight } from './table.ts';

const JOB = '7.two-nodes';
const READY_SECONDS = 20;
/** In good time: before the first node's own guest is given up. */
const PROMPT_MS = 10_000;

let node: FakeNode;
beforeEach(async () => {
  node = await fakeNode(`network: { type: bridge, name: br0, addressing: static, prefix_length: 24,
  pool: [{ address: 192.0.2.10 }, { address: 192.0.2.11 }] }
timeouts: { ready: ${READY_SECONDS} s }
`);
  node.guestAddress = '192.0.2.10';
  // This node has the share itself.
  const { path, options } = node.config.share;
  const share = {
    type: 'nfs' as const,
    server: '127.0.0.1:/share',
    version: '4.2' as const,
    port: 2049,
    path,
    options,
  };
  node.config = { ...node.config, share };
});
afterEach(() => node.remove());

/** The other node says what has become of its guest, as soon as the first node's is being started. */
function otherNode(first: FakeNode, fares: { error: string } | { hostname: string }): void {
  const directory = peersDirectory(first.config.readyDirectory, JOB);
  first.onCreate = () => {
    const { nonce } = JSON.parse(readIfThere(join(directory, 'call.json'))) as Call;
    answerCall(directory, NOBODY, 1, { version: 1, nonce, node: 'wn2', ...fares });
  };
}

async function look(first: FakeNode, promptMs = PROMPT_MS): Promise<Sight> {
  const where = 'vmbatch.log';
  const begun = performance.now();
  try {
    await first.start(JOB, { peers: { nodeFile: 'wn1\nwn2\n' } });
    return { where, text: '', exit: 0 };
  } catch (thrown) {
    const error = toVmbatchError(thrown, 'node');
    const ms = performance.now() - begun;
    const late = ms > promptMs ? `only after ${Math.round(ms / 1000)} s: ` : '';
    return { where, text: late + formatError(error), exit: FAULT_OUTCOMES[error.fault].prologueExit };
  }
}

const ROWS: Mistake<FakeNode>[] = [
  {
    mistake: 'none',
    plant: (first) => otherNode(first, { hostname: 'vm2' }),
    look: (first) => look(first),
    text: /^$/,
    exit: 0,
  },
  {
    mistake: "the other node's image is not there, while the first node waits for its own guest",
    plant: (first) => {
      otherNode(first, { error: 'image demo: /images/demo.qcow2 cannot be read (ENOENT)' });
      first.guestBehaviour = 'silent';
    },
    look: (first) => look(first),
    text: [
      /^vmbatch: node fault: the guest on node wn2 failed: image demo: .*ENOENT/,
      /see vmbatch\.log on wn2/,
    ],
    exit: 2,
  },
  {
    mistake: "the other node's libvirt is down, and the first node's guest is ready",
    plant: (first) => otherNode(first, { error: 'libvirt at qemu:///system cannot be reached' }),
    look: (first) => look(first),
    text: /^vmbatch: node fault: the guest on node wn2 failed: libvirt at qemu:\/\/\/system cannot be reached/,
    exit: 2,
  },
  {
    mistake: 'vmbatch is killed on the other node, as by a lack of memory, or the node loses its power',
    plant: (first) => {
      first.guestBehaviour = 'silent';
      first.config = { ...first.config, timeouts: { ...first.config.timeouts, readyMs: 200_000 } };
      first.onCreate = () => {
        const heartbeat = startHeartbeat(peersDirectory(first.config.readyDirectory, JOB), NOBODY, 1);
        setTimeout(() => heartbeat.stop(), 5_000);
      };
    },
    look: (first) => look(first, 50_000),
    text: [
      /^vmbatch: node fault: node wn2 has given no sign of life for \d+ s/,
      /killed .*vmbatch\.log on wn2/,
    ],
    exit: 2,
  },
];

mistakes('other nodes', () => node, ROWS);
