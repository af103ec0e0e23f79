import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { type GuestContext, renderContextScript } from '../../../src/context/guest-context.ts';

const CONTEXT: GuestContext = {
  jobId: '112.server',
  nonce: '00112233445566778899aabb',
  hostname: 'vmbatch-112-server',
  user: {
    name: 'alice',
    uid: 5001,
    group: 'alice',
    gid: 5001,
    groups: [{ name: 'grid', gid: 6000 }],
    home: '/home/alice',
    shell: '/bin/bash',
  },
  network: {
    addressing: 'static',
    address: '10.0.2.15',
    prefixLength: 24,
    gateway: '10.0.2.2',
    dns: ['10.0.2.3'],
  },
  mounts: [{ type: 'nfs4', source: '10.0.2.2:/share', target: '/share', options: ['vers=4.1', 'hard'] }],
  repositories: ['alice.cern.ch', 'sft.cern.ch'],
  readyFile: '/share/.vmbatch/ready/112.server.00112233445566778899aabb',
  hostKey: '-----BEGIN OPENSSH PRIVATE KEY-----\n(a key)\n-----END OPENSSH PRIVATE KEY-----\n',
  authorizedKey: 'ssh-ed25519 AAAA',
  time: 1_795_370_000,
};

describe('renderContextScript', () => {
  it('gives the pinned text', async () => {
    await expect(renderContextScript(CONTEXT)).toMatchFileSnapshot('../../golden/node/context.sh');
  });

  it.each(['dash', 'bash'])('is sourced by %s without anything of it being executed', (shell) => {
    const hostile = `'"$(touch /tmp/vmbatch-evil)\`id\`;\nexit 9 \\`;
    const text = renderContextScript({ ...CONTEXT, user: { ...CONTEXT.user, home: hostile } });
    const program = `${text}\nprintf %s "$VMBATCH_HOME"`;
    expect(execFileSync(shell, ['-c', program], { encoding: 'utf8' })).toBe(hostile);
  });
});
