import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { XMLParser } from 'fast-xml-parser';
import { describe, expect, it } from 'vitest';
import {
  type DomainDescription,
  type DomainNetwork,
  guestDiskNames,
  renderDomainXml,
} from '../../../src/hypervisor/domain-xml.ts';
import { resourcePath } from '../../../src/util/program/resources.ts';
import { openSiteTemplate } from '../../../src/util/templates/site-template.ts';

const JOB = '/state/jobs/112.server';
const NO_TUNING: DomainDescription['tuning'] = {
  cpus: undefined,
  numaNodes: undefined,
  hugepageBytes: undefined,
  cpuShares: undefined,
  ioWeight: undefined,
  partition: undefined,
};
const KERNEL: DomainDescription['boot'] = {
  type: 'kernel',
  kernel: '/images/vmlinuz',
  initrd: '/images/initrd.img',
  commandLine: 'quiet',
};
const USER: DomainNetwork = { type: 'user', mac: '52:54:00:aa:bb:cc', forwardedPort: 22_001 };
const BRIDGE = { type: 'bridge' as const, name: 'br0', mac: USER.mac, filter: undefined };
const DOMAIN: DomainDescription = {
  name: 'vmbatch-112.server',
  type: 'qemu',
  machine: undefined,
  cpu: undefined,
  xenMode: 'pvh',
  vcpus: 2,
  memoryBytes: 256 * 1024 * 1024,
  boot: KERNEL,
  disks: [{ file: `${JOB}/overlay.qcow2`, format: 'qcow2', role: 'root' }],
  contextIso: `${JOB}/context.iso`,
  consoleLog: `${JOB}/console.log`,
  network: USER,
  filesystems: [],
  agent: false,
  tuning: NO_TUNING,
};
const THREE_DISKS: DomainDescription['disks'] = [
  ...DOMAIN.disks,
  { file: `${JOB}/scratch.raw`, format: 'raw', role: 'scratch' },
  { file: '/state/cache/demo-0.raw', format: 'raw', role: 'cache' },
];

/** Pinned as they are; the rest of the combinations are checked by the schema. */
const PINNED: Readonly<Record<string, DomainDescription>> = {
  qemu: DOMAIN,
  kvm: { ...DOMAIN, type: 'kvm', boot: { type: 'disk' } },
  'kvm-everything': {
    ...DOMAIN,
    type: 'kvm',
    machine: 'q35',
    disks: THREE_DISKS,
    network: {
      ...{ type: 'libvirt', name: 'guests', mac: USER.mac },
      filter: { name: 'clean-traffic', address: '192.0.2.7', address6: '2001:db8::7' },
    },
    filesystems: [
      { type: 'virtiofs', directory: '/shared', tag: 'vmbatch0' },
      { type: '9p', directory: '/software', tag: 'vmbatch1' },
    ],
    agent: true,
    tuning: {
      ...{ cpus: [2, 3], numaNodes: [0], hugepageBytes: 2 * 1024 ** 2, cpuShares: 512, ioWeight: 200 },
      partition: '/machine/vmbatch',
    },
  },
  'xen-pv': {
    ...DOMAIN,
    type: 'xen',
    xenMode: 'pv',
    network: BRIDGE,
    disks: THREE_DISKS,
    boot: { type: 'disk' },
  },
  'xen-pvh': { ...DOMAIN, type: 'xen', network: BRIDGE },
  'xen-hvm': { ...DOMAIN, type: 'xen', xenMode: 'hvm', network: BRIDGE, boot: { type: 'disk' } },
};

/** Every type × machine × network × share × kind of image × disks × tuning × agent. */
function combinations(): { name: string; domain: DomainDescription }[] {
  const types = [
    ...(['kvm', 'qemu'] as const).flatMap((type) => [
      { type, machine: 'pc' },
      { type, machine: 'q35', cpu: 'Nehalem-v1' },
    ]),
    ...(['pv', 'pvh', 'hvm'] as const).map((xenMode) => ({ type: 'xen' as const, xenMode })),
  ];
  const filtered = { name: 'clean-traffic', address: undefined, address6: undefined };
  const networks: DomainNetwork[] = [
    USER,
    BRIDGE,
    { ...BRIDGE, filter: filtered },
    { ...BRIDGE, type: 'libvirt', filter: { ...filtered, address: '192.0.2.7', address6: '2001:db8::7' } },
  ];
  const shares: DomainDescription['filesystems'][] = [
    [],
    [{ type: '9p', directory: '/a', tag: 't0' }],
    [{ type: 'virtiofs', directory: '/a', tag: 't0' }],
  ];
  const images = (['qcow2', 'raw'] as const).flatMap((format) => [
    { boot: KERNEL, format },
    { boot: { type: 'disk' as const }, format },
  ]);
  const tunings = [
    NO_TUNING,
    { ...NO_TUNING, cpus: [0, 4, 5], numaNodes: [0, 1], hugepageBytes: 1024 ** 3 },
    { ...NO_TUNING, cpuShares: 2, ioWeight: 1000, partition: '/machine' },
  ];
  const all: { name: string; domain: DomainDescription }[] = [];
  for (const type of types)
    for (const network of networks)
      for (const filesystems of shares)
        for (const { boot, format } of images)
          for (const tuning of tunings)
            for (const agent of [false, true]) {
              if (type.type === 'xen' && (network.type === 'user' || filesystems.length > 0 || agent))
                continue;
              const disks = THREE_DISKS.map((disk) => (disk.role === 'root' ? { ...disk, format } : disk));
              const domain = { ...DOMAIN, ...type, network, filesystems, boot, tuning, agent, disks };
              all.push({ name: `${all.length}`, domain });
            }
  return all;
}

/** Names of the files that libvirt's schema refuses: one process for all of them. */
function refusedBySchema(files: ReadonlyMap<string, string>): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'vmbatch-xml-'));
  try {
    for (const [name, xml] of files) writeFileSync(join(folder, `${name}.xml`), xml);
    const schema = '/usr/share/libvirt/schemas/domain.rng';
    const paths = [...files.keys()].map((name) => join(folder, `${name}.xml`));
    const { stderr, error } = spawnSync('xmllint', ['--noout', '--relaxng', schema, ...paths], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
    });
    if (error !== undefined) throw error;
    const verdicts = stderr.split('\n').filter((line) => / (validates|fails to validate)$/.test(line));
    // Whoever is not judged at all is not valid.
    expect(verdicts).toHaveLength(files.size);
    return verdicts.filter((line) => line.endsWith(' fails to validate'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const parse = (xml: string) =>
  new XMLParser({ ignoreAttributes: false, attributeNamePrefix: '' }).parse(xml).domain;

describe('renderDomainXml', () => {
  it.each(Object.entries(PINNED))('gives the pinned text for %s', async (name, domain) => {
    const file = `../../golden/node/domain-${name}.xml`;
    await expect(renderDomainXml(domain)).toMatchFileSnapshot(file);
  });

  it("is valid by libvirt's schema for every type, network, share, image, disk and tuning", () => {
    const all = combinations();
    expect(all.length).toBeGreaterThan(1000);
    const files = new Map(all.map(({ name, domain }) => [name, renderDomainXml(domain)]));
    expect(refusedBySchema(files)).toEqual([]);
  }, 60_000);

  it("would be found invalid by libvirt's schema with a word of our own in it", () => {
    const broken = renderDomainXml(DOMAIN).replace('<acpi/>', '<nonsense/>');
    expect(refusedBySchema(new Map([['broken', broken]]))).toHaveLength(1);
    // The tool that admins would use says the same.
    const folder = mkdtempSync(join(tmpdir(), 'vmbatch-xml-'));
    writeFileSync(join(folder, 'd.xml'), renderDomainXml(DOMAIN));
    expect(spawnSync('virt-xml-validate', [join(folder, 'd.xml'), 'domain']).status).toBe(0);
    rmSync(folder, { recursive: true });
  });

  it('keeps what looks like XML in a path, a name or a kernel command line what it is', () => {
    const tricky = `/state/"><evil attribute='&amp;'/>]]>`;
    const domain = parse(
      renderDomainXml({
        ...DOMAIN,
        disks: [{ file: tricky, format: 'qcow2', role: 'root' }],
        network: { ...BRIDGE, name: tricky },
        boot: { ...KERNEL, commandLine: tricky },
      }),
    );
    expect(domain.devices.disk[0].source.file).toBe(tricky);
    expect(domain.devices.interface.source.bridge).toBe(tricky);
    expect(domain.os.cmdline).toBe(tricky);
    expect(domain.devices.disk).toHaveLength(2);
  });

  it('refuses characters that XML cannot hold', () => {
    expect(() => renderDomainXml({ ...DOMAIN, name: 'a\u0001b' })).toThrow(/XML cannot hold/);
  });

  it("gives each virtual CPU one of the job's CPUs if there are as many, else all of them", () => {
    const pinsOf = (cpus: number[]) =>
      parse(renderDomainXml({ ...DOMAIN, tuning: { ...NO_TUNING, cpus } })).cputune.vcpupin.map(
        ({ cpuset }: { cpuset: string }) => cpuset,
      );
    expect(pinsOf([4, 6])).toEqual(['4', '6']);
    expect(pinsOf([4, 5, 6])).toEqual(['4,5,6', '4,5,6']);
  });

  it.each([
    ['a user network', { network: USER }, /network\.type user/],
    [
      '9p',
      { network: BRIDGE, filesystems: [{ type: '9p' as const, directory: '/a', tag: 't' }] },
      /9p needs QEMU/,
    ],
    ['a guest agent', { network: BRIDGE, agent: true }, /agent's channel needs QEMU/],
  ])('refuses %s for Xen as a fault of the node', (_what, change, message) => {
    expect(() => renderDomainXml({ ...DOMAIN, type: 'xen', ...change })).toThrow(message);
  });
});

describe('guestDiskNames', () => {
  it("gives the guest's own names: in order for virtio, by role for Xen", () => {
    const disks = [THREE_DISKS[0], THREE_DISKS[2]].filter((disk) => disk !== undefined);
    expect(guestDiskNames({ ...DOMAIN, disks })).toEqual(['vda:root', 'vdb:cache']);
    expect(guestDiskNames({ ...DOMAIN, type: 'xen', disks })).toEqual(['xvda:root', 'xvdd:cache']);
  });
});

const OURS = readFileSync(resourcePath('templates/domain.xml.ejs'), 'utf8');
const SHARED = '<disk type="file" device="disk"><source file="/data/shared.raw"/><target dev="vdx"/></disk>';

describe("a site's own template", () => {
  const folder = mkdtempSync(join(tmpdir(), 'vmbatch-template-'));
  const path = join(folder, 'domain-qemu.xml.ejs');
  const own = (text: string) => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(path, text);
    return openSiteTemplate(path);
  };

  it('takes the place of ours, with the same variables and the same escaping', async () => {
    const template = await own(`<!-- ours -->\n${OURS}`);
    const domain = { ...DOMAIN, name: 'a<b' };
    expect(renderDomainXml(domain, template)).toBe(`<!-- ours -->\n${renderDomainXml(domain)}`);
  });

  it('may be ours, for whatever a domain can have', async () => {
    const template = await own(OURS);
    for (const domain of Object.values(PINNED))
      expect(renderDomainXml(domain, template)).toBe(renderDomainXml(domain));
  });

  it('may differ in what concerns nobody else', async () => {
    const text = OURS.replace('<name><%= it.name %></name>', '<?x y?><name><![CDATA[<%= it.name %>]]></name>')
      .replace('<memory unit="KiB"><%= it.memoryKiB %></memory>', '<memory>262144</memory>')
      .replace('<devices>', `<devices>${SHARED.replace('/>', '/><readonly/>')}<!-- <name> -->`)
      .replace('<name>', '<uuid>12345678-0000-0000-0000-<%= it.name.length %></uuid><name>');
    expect(renderDomainXml(DOMAIN, await own(text))).toContain('/data/shared.raw');
  });

  it.each<[string, (ours: string) => string, RegExp, Partial<DomainDescription>?]>([
    ['nothing', () => '<%# later -%>', /its result is empty/],
    ['blanks', () => ' \n\n', /its result is empty/],
    ['no XML', () => 'name: <%= it.name %>', /line 1 of its result: an element is missing here/],
    [
      'another element',
      (ours) => ours.replaceAll('domain>', 'domains>').replace('<domain ', '<domains '),
      /is <domains>, must be <domain>/,
    ],
    ['two domains', (ours) => `${ours}${ours}`, /line \d+ of its result: something stands after the end/],
    ['half a domain', (ours) => ours.slice(0, -10), /<domain> is not closed|something/],
    ['a DOCTYPE', (ours) => `<!DOCTYPE domain [<!ENTITY n "x">]>${ours}`, /a DOCTYPE is not allowed/],
    [
      'an entity that XML does not have',
      (ours) => ours.replace('<%= it.name %>', '&name;'),
      /&name; is no entity of XML/,
    ],
    [
      'another name',
      (ours) => ours.replace('<%= it.name %>', 'worker'),
      /<name> is "worker", must be "vmbatch-112.server"/,
    ],
    [
      'a name with something around it',
      (ours) => ours.replace('<%= it.name %>', ' <%= it.name %>'),
      /<name> is " vmbatch/,
    ],
    ['no name', (ours) => ours.replace('<name><%= it.name %></name>', ''), /<name> is missing/],
    ['two names', (ours) => ours.replace('<name>', '<name>a</name><name>'), /several <name>/],
    [
      'another type',
      (ours) => ours.replace('<%= it.type %>', 'kvm'),
      /type of the domain is "kvm", must be "qemu"/,
    ],
    [
      'another size of memory',
      (ours) => ours.replace('unit="KiB"', 'unit="MiB"'),
      /<memory> is \d+ bytes, must be 268435456/,
    ],
    [
      'no memory',
      (ours) => ours.replace('memory', 'memori'),
      /line \d+ of its result: <memori> is not closed/,
    ],
    ['another number of CPUs', (ours) => ours.replace('<%= it.vcpus %>', '1'), /<vcpu> is "1", must be "2"/],
    [
      'a UUID of its own',
      (ours) => ours.replace('<name>', '<uuid>c7a5fdbd-cdaf-9455-926a-d65c16db1809</uuid><name>'),
      /<uuid> is c7a5.* for each guest/,
    ],
    [
      'no context disk',
      (ours) => ours.replace('it.contextIso', 'it.consoleLog'),
      /the context disk .*context.iso not at all/,
    ],
    [
      'no disks',
      (ours) => ours.replace('of it.disks)', 'of [])'),
      /the root disk .*overlay.qcow2 not at all/,
    ],
    [
      'the first disk only',
      (ours) => ours.replace('of it.disks)', 'of it.disks.slice(0, 1))'),
      /the scratch disk/,
      { disks: THREE_DISKS },
    ],
    [
      'a disk of another format',
      (ours) => ours.replaceAll('type="<%= disk.format %>"', 'type="raw"'),
      /root disk has the driver type raw, must be qcow2/,
    ],
    [
      'a disk that all guests write on',
      (ours) => ours.replace('<devices>', `<devices>${SHARED}`),
      /each guest writes on the same disk \/data\/shared.raw/,
    ],
    [
      'no way to the guest',
      (ours) => ours.replace('it.network.forwardedPort', '2222'),
      /does not forward port 22001/,
    ],
    [
      'no MAC address',
      (ours) => ours.replace(/ *<mac .*\n/, ''),
      /no <interface> with the MAC address 52:54:00:aa:bb:cc/,
      { network: BRIDGE },
    ],
    [
      'no file system',
      (ours) => ours.replace('of it.filesystems)', 'of [])'),
      /no <filesystem> with the target vmbatch0/,
      { filesystems: [{ type: '9p', directory: '/shared', tag: 'vmbatch0' }] },
    ],
    [
      'no agent',
      (ours) => ours.replace('if (it.agent)', 'if (false)'),
      /no <channel> org.qemu.guest_agent.0/,
      { agent: true },
    ],
  ])('that makes %s is refused', async (_what, change, message, changes = {}) => {
    const text = change(OURS);
    expect(text).not.toBe(OURS);
    const template = await own(text);
    expect(() => renderDomainXml({ ...DOMAIN, ...changes }, template)).toThrow(
      expect.objectContaining({
        fault: 'node',
        code: 'template-invalid',
        message: expect.stringMatching(message),
      }),
    );
  });

  it.each([
    ['no JavaScript', '<a/>\n<% if ( { %>\n', /domain-qemu\.xml\.ejs: /],
    ['a name that there is not', '<a/>\n\n<b><%= it.nmae %></b>', /line 3: a <%= %> has no value/],
    ['a value of nothing', '<b><%= it.nothing.at.all %></b>', /line 1: Cannot read properties of undefined/],
  ])('that holds %s is refused with file, line and reason', async (_what, text, message) => {
    const render = async () => renderDomainXml(DOMAIN, await own(text));
    await expect(render()).rejects.toMatchObject({
      fault: 'node',
      code: 'template-invalid',
      message: expect.stringMatching(message),
    });
  });
});
