import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { kernelHostname, redactContext, renderContextScript } from '../../../src/context/guest-context.ts';
import { CONTEXT, FULL_CONTEXT } from './context.ts';

describe('renderContextScript', () => {
  it('gives the pinned text', async () => {
    await expect(renderContextScript(CONTEXT)).toMatchFileSnapshot('../../golden/node/context.sh');
  });

  it('gives the pinned text for a guest with everything', async () => {
    const text = renderContextScript(FULL_CONTEXT, 'cernvm', 'user-data');
    await expect(text).toMatchFileSnapshot('../../golden/node/context-full.sh');
  });

  it.each([
    ['prepared', 'static'],
    ['cernvm', 'static'],
    ['cloud-init', 'none'],
  ] as const)('leaves the network to who configures it in %s images: %s', (kind, net) => {
    expect(renderContextScript(FULL_CONTEXT, kind)).toContain(`VMBATCH_NET='${net}'`);
  });

  it.each([
    [8, '255.0.0.0'],
    [22, '255.255.252.0'],
    [24, '255.255.255.0'],
    [30, '255.255.255.252'],
  ])('tells the boot loader of µCernVM a static address with its netmask: /%i', (prefixLength, mask) => {
    const network = {
      ...FULL_CONTEXT.network,
      addressing: 'static' as const,
      address: '192.0.2.7',
      prefixLength,
      gateway: undefined,
    };
    const text = renderContextScript({ ...FULL_CONTEXT, network }, 'cernvm', 'user-data');
    expect(text).toContain(`ETH0_MASK='${mask}'\n`);
  });

  it('leaves DHCP to the boot loader of µCernVM, which asks only where there is no ETH0_MAC', () => {
    const network = { addressing: 'dhcp' as const, mac: '52:54:00:12:34:56' };
    expect(renderContextScript({ ...FULL_CONTEXT, network }, 'cernvm', 'user-data')).not.toContain('ETH0_');
  });

  it('tells paths of mounts as one word each, as /proc/mounts has them', () => {
    const mounts = [{ type: 'nfs4', source: 's:/a b', target: '/grid data/x\\y', options: ['hard'] }];
    expect(renderContextScript({ ...CONTEXT, mounts })).toContain(
      "VMBATCH_MOUNTS='nfs4 s:/a\\040b /grid\\040data/x\\134y hard'",
    );
  });

  it.each([
    ['vm.example.org', 'vm.example.org'],
    [`vm.${'d'.repeat(61)}`, `vm.${'d'.repeat(61)}`],
    [`vm.${'d'.repeat(62)}`, 'vm'],
  ])('has the kernel called what it can be called: %s', (hostname, expected) => {
    expect(kernelHostname(hostname)).toBe(expected);
  });

  it('says nothing of the time where the clock is to be left alone', () => {
    expect(renderContextScript({ ...CONTEXT, time: undefined })).toContain("VMBATCH_TIME=''");
  });

  it.each(['dash', 'bash'])('is sourced by %s without anything of it being executed', (shell) => {
    const hostile = `'"$(touch /tmp/vmbatch-evil)\`id\`;\nexit 9 \\`;
    const text = renderContextScript({ ...CONTEXT, user: { ...CONTEXT.user, home: hostile } });
    const program = `${text}\nprintf %s "$VMBATCH_HOME"`;
    expect(execFileSync(shell, ['-c', program], { encoding: 'utf8' })).toBe(hostile);
  });
});

describe('redactContext', () => {
  it('leaves no key in what is shown', () => {
    const text = renderContextScript(redactContext(FULL_CONTEXT));
    for (const secret of [FULL_CONTEXT.hostKey, FULL_CONTEXT.extras?.peers?.privateKey ?? '?'])
      expect(text).not.toContain(Buffer.from(secret).toString('base64').slice(0, 16));
    expect(text).toContain('PLACEHOLDER');
  });
});
