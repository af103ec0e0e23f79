import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { dhcpReleaseMessage, sendDhcpRelease } from '../../../../src/guest/network/dhcp-release.ts';
import { discoverAddress } from '../../../../src/guest/network/discover.ts';
import { checkReportedAddress, hostnameOf, planNetwork } from '../../../../src/guest/network/plan.ts';
import type { AddressSource, GuestAddress } from '../../../../src/hypervisor/port.ts';
import { parseNodeConfig } from '../../../../src/node-file/read.ts';

const MAC = '52:54:01:02:03:04';
const network = (text: string) =>
  parseNodeConfig(
    `queues: [a]
images: { demo: { path: /demo.qcow2 } }
share: { type: nfs, server: "10.0.2.2:/share", path: /shared }
network: ${text}`,
    'node.yaml',
  ).network;
const STATIC = network(`
  type: bridge
  name: br0
  addressing: static
  prefix_length: 24
  gateway: 192.0.2.1
  gateway6: "2001:db8::1"
  dns: [192.0.2.53]
  domain: example.org
  pool:
    - { address: 192.0.2.10, address6: "2001:db8::10", mac: "52:54:00:00:00:10", hostname: vm10.example.org }
    - { address: 192.0.2.11 }
`);
const plan = (config: ReturnType<typeof network>, entry?: (typeof STATIC.static & object)['pool'][number]) =>
  planNetwork(config, { port: 22_001, mac: entry?.mac ?? MAC, entry }, '112.server', {
    ipv4: true,
    ipv6: true,
  });

describe('planNetwork', () => {
  it('forwards a port on a user network, and gives its fixed addresses if they are to be static', () => {
    expect(plan(network('{ addressing: dhcp }'))).toMatchObject({
      domain: { type: 'user', mac: MAC, forwardedPort: 22_001 },
      guest: { addressing: 'dhcp', mac: MAC },
      host: '127.0.0.1',
      port: 22_001,
      hostname: 'vmbatch-112-server',
    });
    expect(plan(network('{ addressing: static }')).guest).toMatchObject({
      address: '10.0.2.15',
      dns: ['10.0.2.3'],
    });
  });

  it(
    'gives a static guest the pool’s addresses and names, and a filter that knows them'.replace('’', "'"),
    () => {
      expect(plan(STATIC, STATIC.static?.pool[0])).toEqual({
        domain: {
          type: 'bridge',
          name: 'br0',
          mac: '52:54:00:00:00:10',
          filter: { name: 'vmbatch-clean-traffic6', address: '192.0.2.10', address6: '2001:db8::10' },
        },
        guest: {
          addressing: 'static',
          address: '192.0.2.10',
          prefixLength: 24,
          gateway: '192.0.2.1',
          address6: { address: '2001:db8::10', prefixLength: 64, gateway: '2001:db8::1' },
          dns: ['192.0.2.53'],
          domain: 'example.org',
          mac: '52:54:00:00:00:10',
        },
        hostname: 'vm10.example.org',
        host: '192.0.2.10',
        port: 22,
      });
      expect(plan(STATIC, STATIC.static?.pool[1]).hostname).toBe('vmbatch-112-server.example.org');
    },
  );

  it('leaves the address of a DHCP guest open, and the filter to learn it', () => {
    const result = plan(network('{ type: libvirt, name: guests }'));
    expect(result).toMatchObject({ host: undefined, port: 22, guest: { addressing: 'dhcp' } });
    expect(result.domain).toMatchObject({
      type: 'libvirt',
      name: 'guests',
      filter: { name: 'clean-traffic' },
    });
  });

  it.each([
    ['auto', false, undefined],
    ['auto', true, 'clean-traffic'],
    ['off', true, undefined],
    ['my-filter', false, 'my-filter'],
  ])('with filter %s on a connection that supports it (%s) takes %s', (filter, supported, name) => {
    const config = network(`{ type: bridge, name: br0, filter: "${filter}" }`);
    const { domain } = planNetwork(config, { port: undefined, mac: MAC, entry: undefined }, '1.s', {
      ipv4: supported,
      ipv6: false,
    });
    expect(domain.type === 'user' ? 'user' : domain.filter?.name).toBe(name);
  });
});

it("a guest with an IPv6 address gets the filter that lets it use that, or none: libvirt's own leaves it without IPv6", () => {
  const config = network(
    `{ type: bridge, name: br0, addressing: static, prefix_length: 24, pool: [{ address: 192.0.2.9, address6: "2001:db8::9" }] }`,
  );
  const entry = config.static?.pool[0];
  const filter = (ipv6: boolean) => {
    const { domain } = planNetwork(config, { port: undefined, mac: MAC, entry }, '1.s', { ipv4: true, ipv6 });
    return domain.type === 'user' ? 'user' : domain.filter;
  };
  expect(filter(true)).toEqual({
    name: 'vmbatch-clean-traffic6',
    address: '192.0.2.9',
    address6: '2001:db8::9',
  });
  expect(filter(false)).toBeUndefined();
});

describe('hostnameOf', () => {
  it.each([
    ['112.server.example.org', 'vmbatch-112-server-example-org'],
    ['113[2].Server', 'vmbatch-113-2-server'],
    [`1.${'a'.repeat(100)}`, `vmbatch-1-${'a'.repeat(53)}`],
    [`1.${'a'.repeat(100)}.node3`, `vmbatch-1-${'a'.repeat(47)}-node3`],
    ['1.server.node12', 'vmbatch-1-server-node12'],
  ])('turns %s into a host name', (jobId, expected) => {
    expect(hostnameOf(jobId)).toBe(expected);
  });
});

describe('checkReportedAddress', () => {
  it.each([
    ['127.0.0.1', /not one that a guest can have/],
    ['169.254.1.1', /not one that/],
    ['0.0.0.0', /not one that/],
    ['239.1.1.1', /not one that/],
    ['::1', /not one that/],
    ['fe80::1', /not one that/],
    ['::ffff:192.0.2.9', /not one that/],
    ['192.0.2.1', /is the gateway/],
    ['192.0.2.2', /is one of this node/],
    ['2001:DB8::2', /is one of this node/],
    ['wn1', /is no address/],
  ])('refuses %s as a fault of the node', (address, message) => {
    const check = () => checkReportedAddress(address, STATIC, ['192.0.2.2', '2001:db8::2'], '1.s');
    expect(check).toThrow(message);
    expect(check).toThrow(expect.objectContaining({ fault: 'node', code: 'address-refused' }));
  });

  it('takes any other address', () => {
    for (const address of ['192.0.2.99', '2001:db8::99', '10.1.2.3'])
      expect(() => checkReportedAddress(address, STATIC, ['192.0.2.2'], '1.s')).not.toThrow();
  });
});

describe('discoverAddress', () => {
  const discover = (
    known: Partial<Record<AddressSource, GuestAddress[]>>,
    { arpTable = '/nonexistent', deadlineMs = 200 } = {},
  ) => {
    const asked: string[] = [];
    const result = discoverAddress({
      hypervisor: {
        addresses: async (_name, source) => {
          asked.push(source);
          return known[source] ?? [];
        },
      },
      domain: 'vmbatch-1.s',
      mac: MAC,
      deadlineMs,
      signal: new AbortController().signal,
      arpTable,
      intervalMs: 10,
    });
    return { result, asked };
  };

  it("believes libvirt's lease first", async () => {
    const { result, asked } = discover({ lease: [{ mac: MAC, address: '192.0.2.20' }] });
    expect(await result).toBe('192.0.2.20');
    expect(asked).toEqual(['lease']);
  });

  it('finds the guest among the neighbours by its MAC address', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'vmbatch-arp-'));
    const arpTable = join(directory, 'arp');
    writeFileSync(
      arpTable,
      `IP address       HW type     Flags       HW address            Mask     Device
192.0.2.30       0x1         0x0         ${MAC}     *        br0
192.0.2.31       0x1         0x2         52:54:ff:ff:ff:ff     *        br0
192.0.2.32       0x1         0x2         ${MAC}     *        br0
`,
    );
    expect(await discover({}, { arpTable }).result).toBe('192.0.2.32');
    rmSync(directory, { recursive: true });
  });

  it('asks the guest agent last, and prefers IPv4 to IPv6 and never takes a link-local address', async () => {
    const agent = ['fe80::1', '2001:db8::5', '192.0.2.40'].map((address) => ({ mac: MAC, address }));
    expect(await discover({ agent }).result).toBe('192.0.2.40');
    expect(await discover({ agent: agent.slice(0, 2) }).result).toBe('2001:db8::5');
  });

  it('gives up at its deadline as a fault of the node', async () => {
    await expect(
      discover({ lease: [{ mac: '52:54:00:00:00:00', address: '192.0.2.1' }] }).result,
    ).rejects.toMatchObject({
      fault: 'node',
      code: 'address-unknown',
    });
  });
});

describe('sendDhcpRelease', () => {
  const LEASE = { address: '192.0.2.20', mac: MAC, server: '127.0.0.1' };

  it('writes the message that RFC 2131 asks for', () => {
    const message = dhcpReleaseMessage({ ...LEASE, server: '192.0.2.1' }, 0x01020304);
    expect(message.subarray(0, 16).toString('hex')).toBe('010106000102030400000000c0000214');
    expect(message.subarray(28, 34).toString('hex')).toBe('525401020304');
    expect(message.subarray(236, 250).toString('hex')).toBe('638253633501073604c0000201ff');
    expect(message).toHaveLength(300);
  });

  it('sends it once, and waits for no answer', async () => {
    const server = createSocket('udp4');
    await new Promise<void>((resolve) => server.bind(0, '127.0.0.1', resolve));
    const received = new Promise<Buffer>((resolve) => server.once('message', resolve));
    await sendDhcpRelease(LEASE, server.address().port);
    expect((await received).length).toBe(300);
    server.close();
  });

  it('does nothing for a server that is no address', async () => {
    await expect(sendDhcpRelease({ ...LEASE, server: 'evil' })).resolves.toBeUndefined();
  });
});
