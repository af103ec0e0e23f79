// What is different on Xen: the console of para-virtualised guests, and filters, of which libvirt has none
// there.
import { describe, expect, it } from 'vitest';
import { networkRow } from '../../../../src/node/check/network.ts';
import { consoleTerminal, keepXenConsole } from '../../../../src/node/life/steps/xen-console.ts';
import { lookUpFacts } from '../../../../src/node/plan/facts.ts';
import { parseNodeConfig } from '../../../../src/node-file/read.ts';

const XML = `<domain type='xen' id='3'>
  <devices>
    <console type='pty' tty='/dev/pts/7'>
      <source path='/dev/pts/7'/>
      <target type='xen' port='0'/>
    </console>
  </devices>
</domain>`;

describe('consoleTerminal', () => {
  it.each([
    [XML, '/dev/pts/7'],
    [XML.replace(" tty='/dev/pts/7'", ''), '/dev/pts/7'],
    [XML.replaceAll('/dev/pts/7', '/etc/shadow'), undefined],
    [XML.replace("type='pty'", "type='file'"), undefined],
    ['<domain/>', undefined],
  ])('finds the terminal in what libvirt says of a domain', (xml, expected) => {
    expect(consoleTerminal(xml)).toBe(expected);
  });
});

describe('keepXenConsole', () => {
  const keep = async (
    type: 'xen' | 'qemu',
    xenMode: 'pv' | 'pvh' | 'hvm',
    answers: (string | undefined)[],
  ) => {
    const started: string[][] = [];
    const describe = async () => (answers.length > 1 ? answers.shift() : answers[0]);
    await keepXenConsole(
      { type, xenMode, name: 'vmbatch-1' },
      { describe },
      '/jobs/1/console.log',
      async (file, args) => {
        started.push([file, ...args]);
      },
    );
    return started;
  };

  it.each(['pv', 'pvh'] as const)(
    'copies the console of a guest of the kind %s into its file',
    async (mode) => {
      const started = await keep('xen', mode, [undefined, '<domain/>', XML]);
      expect(started).toHaveLength(1);
      expect(started[0]?.slice(-2)).toEqual(['/dev/pts/7', '/jobs/1/console.log']);
    },
  );

  it('leaves those alone whose hypervisor writes the file', async () => {
    expect(await keep('xen', 'hvm', [XML])).toEqual([]);
    expect(await keep('qemu', 'pv', [XML])).toEqual([]);
  });

  it('lets a guest without a console be', async () => {
    expect(await keep('xen', 'pv', ['<domain/>'])).toEqual([]);
  });
});

describe('a network filter on Xen', () => {
  const config = (type: string, filter: string) =>
    parseNodeConfig(
      `queues: [a]
state: /nonexistent/vmbatch
images: { demo: { path: /demo.qcow2 } }
share: { type: nfs, server: "10.0.2.2:/share", path: /shared }
hypervisor: { type: ${type} }
network: { type: bridge, name: br0, filter: ${filter} }`,
      'node.yaml',
    );
  const run = async () => ({
    ...{ exitCode: 1, stdout: '', stderr: '', timedOut: false, notFound: false, signal: undefined },
  });
  const found = async (type: string, filter: string) => {
    const site = { config: () => config(type, filter), run } as never;
    const findings = [await networkRow.check(site)].flat();
    return findings.filter((finding) => /filter/.test(finding.found)).map(({ state }) => state);
  };

  it('is said to do nothing: a warning where it is automatic, a failure where it is named', async () => {
    expect(await found('xen', 'auto')).toEqual(['warning']);
    expect(await found('xen', 'my-filter')).toEqual(['failed']);
    expect(await found('xen', 'off')).toEqual([]);
    expect(await found('qemu', 'my-filter')).toEqual([]);
  });

  it('is never taken for one that there is', async () => {
    const { filters } = await lookUpFacts(config('xen', 'auto'), '1.server', run as never);
    expect(filters).toEqual({ ipv4: false, ipv6: false });
  });
});
