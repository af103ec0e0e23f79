// The user-data message: what each of its three readers makes of it.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { contextFiles, userDataOf } from '../../../src/context/disk-files.ts';
import { networkConfig } from '../../../src/context/network-config.ts';
import { checkSiteTemplates, loadSiteParts, SAMPLE_VARIABLES } from '../../../src/context/site-parts.ts';
import type { UserDataPart } from '../../../src/context/user-data.ts';
import { CONTEXT, FULL_CONTEXT, SITE } from './context.ts';
import { amiconfigSections, cloudInitView, ucernvmVariables, writtenNetwork } from './readers.ts';

const STATIC = {
  ...{ addressing: 'static' as const, address: '192.0.2.10', dns: ['192.0.2.53'] },
  mac: '52:54:00:12:34:56',
};

const SITE_PARTS: UserDataPart[] = [
  {
    name: '10-motd.cloud-config.ejs',
    type: 'cloud-config',
    text: '#cloud-config\nhostname: site-wins\nlist:\n[a,\nb]\n',
  },
  {
    name: '20-x.x-shellscript.ejs',
    type: 'x-shellscript',
    text: '#!/bin/sh\n[ -e /x ] && evil=1\nkey: value\n',
  },
  {
    name: '30-u.ucernvm.ejs',
    type: 'ucernvm',
    text: "# a=comment\nresize_rootfs=on\ncvmfs_pac_urls='http://a/wpad;http://b/wpad'\n",
  },
  {
    name: '40-a.amiconfig.ejs',
    type: 'amiconfig',
    text: '[CernVM]\nswap_size=off\n[condor]\nuse=no\n[amiconfig]\nplugins=condor\n',
  },
];
const withParts = (siteParts: UserDataPart[]) => userDataOf(FULL_CONTEXT, { ...SITE, siteParts });

describe('buildUserData', () => {
  it('gives the pinned text', async () => {
    await expect(withParts(SITE_PARTS)).toMatchFileSnapshot('../../golden/context/user-data.txt');
  });

  it.each([
    ['without parts of the site', []],
    ['with parts of the site', SITE_PARTS],
  ])('has amiconfig see its own sections and nothing of anything else, %s', (_how, parts) => {
    const sections = amiconfigSections(withParts(parts));
    expect(sections['amiconfig']).toEqual({ plugins: parts.length === 0 ? 'cernvm' : 'cernvm condor' });
    expect(sections['cernvm']).toEqual({
      organisations: 'alice',
      repositories: 'alice.cern.ch,sft.cern.ch',
      // It ends in a file that a shell sources.
      proxy: '"http://squid.example.org:3128;DIRECT"',
      ...(parts.length === 0 ? {} : { swap_size: 'off' }),
    });
    const foreign = Object.keys(sections).filter((name) => !['ucernvm-begin', 'ucernvm-end'].includes(name));
    expect(foreign).toEqual(parts.length === 0 ? ['amiconfig', 'cernvm'] : ['amiconfig', 'cernvm', 'condor']);
  });

  it("has µCernVM's boot loader see its variables, semicolons in them and all", () => {
    expect(ucernvmVariables(withParts(SITE_PARTS))).toEqual({
      RESIZE_ROOTFS: '1',
      USEGLIDEINWMS: '0',
      CVMFS_HTTP_PROXY: 'http://squid.example.org:3128;DIRECT',
      CVMFS_SERVER: 'http://cvmfs.example.org/cvmfs/@fqrn@',
      CVMFS_TAG: 'cernvm-4.5',
      CVMFS_PAC_URLS: 'http://a/wpad;http://b/wpad',
    });
  });

  it('has cloud-init see every part unchanged, with the type that it is of', () => {
    const siteParts = SITE_PARTS.map((part) =>
      part.type === 'cloud-config' ? { ...part, text: '#cloud-config\nmotd: "ü"\n' } : part,
    );
    const view = cloudInitView(contextFiles(FULL_CONTEXT, { ...SITE, siteParts }));
    expect(view.parts.map(({ type, name }) => [type, name])).toEqual([
      ['text/cloud-config', 'vmbatch.cfg'],
      ['text/cloud-config', '10-motd.cloud-config.ejs'],
      ['text/part-handler', 'vmbatch-handler'],
      ['text/x-shellscript', '20-x.x-shellscript.ejs'],
      ['text/x-shellscript', '50-vmbatch'],
      ['text/ucernvm', 'ucernvm'],
      ['text/amiconfig-user-data', 'amiconfig'],
    ]);
    expect(view.parts[3]?.text).toBe(SITE_PARTS[1]?.text);
    expect(view.configs).toMatchObject([
      {
        hostname: 'vmbatch-112-server',
        users: [[]],
        ssh_genkeytypes: ['ed25519'],
        timezone: 'Europe/Berlin',
      },
      { motd: 'ü' },
    ]);
    expect(view.meta).toEqual({
      'instance-id': '112.server-00112233445566778899aabb',
      'local-hostname': 'vmbatch-112-server',
    });
  });

  it('has cloud-init configure static addresses of both kinds on the interface with the MAC', () => {
    const { interfaces, dns } = cloudInitView(contextFiles(FULL_CONTEXT, SITE));
    expect(interfaces).toHaveLength(1);
    expect(interfaces[0]).toMatchObject({
      mac_address: '52:54:00:12:34:56',
      subnets: [
        { address: '192.0.2.7', prefix: 24, type: 'static' },
        { address: '2001:db8::7', prefix: 64, type: 'static' },
      ],
    });
    const routes = JSON.stringify(interfaces);
    expect(routes).toMatch(/"gateway": ?"192\.0\.2\.1"/);
    expect(routes).toMatch(/"gateway": ?"2001:db8::1"/);
    expect(JSON.stringify([dns, interfaces])).toMatch(/192\.0\.2\.53.*example\.org/);
  });

  it.each([
    ['eni', [/^iface eth0 inet static$/m, /^ +gateway 2001:db8::1$/m, /^ +gateway 192\.0\.2\.1$/m]],
    ['networkd', [/^Name=eth0$/m, /^Gateway=2001:db8::1$/m, /^Gateway=192\.0\.2\.1$/m]],
    ['sysconfig', [/^DEVICE=eth0$/m, /^IPV6_DEFAULTGW=2001:db8::1$/m, /^GATEWAY=192\.0\.2\.1$/m]],
    ['netplan', [/set-name: eth0/, /gateway6: 2001:db8::1/, /gateway4: 192\.0\.2\.1/]],
  ])('has cloud-init write the interface and both gateways for %s', (writer, wanted) => {
    const text = writtenNetwork(contextFiles(FULL_CONTEXT, SITE), writer, '52:54:00:12:34:56');
    for (const line of wanted) expect(text).toMatch(line);
    expect(text).not.toContain('::/64');
  });

  it('leaves cloud-init nothing to complain about, and the site the last word', () => {
    const siteParts = SITE_PARTS.map((part) =>
      part.type === 'cloud-config' ? { ...part, text: '#cloud-config\nhostname: site-wins\n' } : part,
    );
    const view = cloudInitView(contextFiles(FULL_CONTEXT, { ...SITE, siteParts }));
    expect(view.merged).toMatchObject({ hostname: 'site-wins', users: [[]], timezone: 'Europe/Berlin' });
    expect(view.logged).toEqual([]);
    expect(view.problems).toEqual([]);
  });

  it('has cloud-init ask DHCP where there is DHCP', () => {
    const files = contextFiles({ ...CONTEXT, network: { addressing: 'dhcp' } }, SITE);
    expect(cloudInitView(files).interfaces[0]?.subnets).toMatchObject([{ type: 'dhcp4' }]);
    // Or an image whose machine-id is filled in gives all its guests one lease.
    expect(writtenNetwork(files, 'netplan', '52:54:00:12:34:56')).toContain('dhcp-identifier: mac');
  });

  it('says that a gateway outside the network is on the link, and never that there is to be no DHCP', () => {
    for (const [prefixLength, onLink] of [
      [24, true],
      [32, true],
      [8, false],
    ] as const) {
      const network = { ...STATIC, prefixLength, gateway: '192.1.100.1' };
      const files = contextFiles({ ...CONTEXT, network }, SITE);
      const text = writtenNetwork(files, 'netplan', '52:54:00:12:34:56');
      expect(text.includes('on-link: true'), `${prefixLength}: ${text}`).toBe(onLink);
      expect(text).toMatch(/(via|gateway4): 192\.1\.100\.1/);
      // cloud-init 18.x takes it for a wish for DHCP.
      expect(JSON.stringify(networkConfig(network))).not.toContain('dhcp4');
    }
  });

  it.each([
    ['a shell script without #!', { type: 'x-shellscript', text: 'echo\n' }, /does not begin with #!/],
    ['a cloud-config without its first line', { type: 'cloud-config', text: 'a: 1\n' }, /#cloud-config/],
    [
      'a µCernVM part with a section',
      { type: 'ucernvm', text: 'a=1\n[cernvm]\n' },
      /in line 2 of its result "\[cernvm\]"/,
    ],
    [
      'a µCernVM part that a shell would execute',
      { type: 'ucernvm', text: 'a=$(id)\n' },
      /one shell word or in quotes/,
    ],
    [
      'the mark of µCernVM elsewhere',
      { type: 'amiconfig', text: '[a]\n[ucernvm-end]\n' },
      /in a ucernvm part only/,
    ],
    ['an option that is indented', { type: 'amiconfig', text: '[a]\n  b=1\n' }, /in the first column/],
    [
      'an amiconfig part without one',
      { type: 'amiconfig', text: 'a=1\n[b]\n' },
      /in line 1 of its result "a=1", allowed: a \[section\] first/,
    ],
    [
      'the boundary',
      { type: 'amiconfig', text: `[a]\nb=--vmbatch-${CONTEXT.nonce}\n` },
      /holds the boundary/,
    ],
  ] as const)('refuses %s, naming the file', (_what, part, message) => {
    const run = () => withParts([{ name: '50-bad.ejs', ...part }]);
    expect(run).toThrow(/^the site's user-data 50-bad\.ejs /);
    expect(run).toThrow(message);
  });

  it('refuses more than 16 kB, saying how much is whose', () => {
    const text = `#!/bin/sh\n${'# a long comment\n'.repeat(800)}`;
    const run = () =>
      withParts([...SITE_PARTS, { name: '60-long.x-shellscript.ejs', type: 'x-shellscript', text }]);
    expect(run).toThrow(
      /would have \d{5} bytes, allowed: 16384; \d+ are the site's own, most of them 60-long\.x-shellscript\.ejs/,
    );
  });
});

describe('loadSiteParts', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'vmbatch-parts-'));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));
  const put = (name: string, text: string) => writeFileSync(join(directory, name), text);
  const load = () => loadSiteParts(directory, { ...SAMPLE_VARIABLES, user: `o'brien: "x"` });

  it('renders templates in the order of their names, each quoting for its own language', async () => {
    put('20-b.x-shellscript.ejs', '#!/bin/sh\necho <%= it.user %>\n');
    put('10-a.cloud-config.ejs', '#cloud-config\nowner: <%= it.user %>\nmib: <%= it.memoryMiB %>\n');
    put('notes.txt', 'not a template');
    expect(await load()).toEqual([
      {
        name: '10-a.cloud-config.ejs',
        type: 'cloud-config',
        text: `#cloud-config\nowner: "o'brien: \\"x\\""\nmib: 512\n`,
      },
      { name: '20-b.x-shellscript.ejs', type: 'x-shellscript', text: `#!/bin/sh\necho 'o'\\''brien: "x"'\n` },
    ]);
  });

  it.each([
    [
      'a name that does not say what it is',
      'motd.ejs',
      'x',
      /motd\.ejs: found a name .* allowed: NAME\.TYPE\.ejs/,
    ],
    [
      'a variable that there is not',
      'a.ucernvm.ejs',
      'x=1\ny=<%= it.proxi %>\n',
      /line 2: a <%= %> has no value/,
    ],
  ])('refuses %s, with file and reason', async (_what, name, text, message) => {
    put(name, text);
    await expect(load()).rejects.toMatchObject({ fault: 'node', message: expect.stringMatching(message) });
  });

  it('refuses a value with a line break where a line is', async () => {
    put('a.ucernvm.ejs', 'x=<%= it.proxy %>\n');
    await expect(
      loadSiteParts(directory, { ...SAMPLE_VARIABLES, proxy: 'a\n[ucernvm-end]' }),
    ).rejects.toThrow(/line 1: a value with a line break/);
  });

  it('says that the directory is missing', async () => {
    mkdirSync(join(directory, 'sub'));
    await expect(loadSiteParts(join(directory, 'absent'), SAMPLE_VARIABLES)).rejects.toThrow(
      /cannot be read \(ENOENT\)/,
    );
  });
});

describe('checkSiteTemplates', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'vmbatch-parts-'));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  it('accepts the examples that we ship, one of each type, and they fit', async () => {
    const parts = await checkSiteTemplates(join(import.meta.dirname, '../../../share/examples/context'));
    expect(parts.map(({ type }) => type).sort()).toEqual([
      'amiconfig',
      'cloud-config',
      'ucernvm',
      'x-shellscript',
    ]);
    expect(Buffer.byteLength(withParts(parts))).toBeLessThan(6000);
  });

  it.each([
    [
      'cloud-config',
      '#cloud-config\na: 1\nb: [2\n',
      /a\.cloud-config\.ejs is no YAML in line \d of its result: /,
    ],
    ['cloud-config', '#cloud-config\n- a\n', /a\.cloud-config\.ejs is no YAML mapping of keys and values/],
    [
      'cloud-config',
      '#cloud-config\na: <%= it.nothing.more %>\n',
      /a\.cloud-config\.ejs: line 2: Cannot read/,
    ],
    ['cloud-config', 'a\n<% if (it.vcpus { %>\nb\n<% } %>\n', /a\.cloud-config\.ejs: line 2: \S/],
    ['cloud-config', 'a\nb\n<% if (true) {\nc\n', /line 3: Could not find matching close tag/],
    ['x-shellscript', 'echo\n', /a\.x-shellscript\.ejs does not begin with #!/],
    ['ucernvm', 'a=1\nb=two words\n', /a\.ucernvm\.ejs has in line 2 of its result "b=two words"/],
    ['amiconfig', '[a]\nb=1 ;c\n', /no blank before ";"/],
  ])('refuses a broken template of the type %s: %j', async (type, text, message) => {
    writeFileSync(join(directory, `a.${type}.ejs`), text);
    await expect(checkSiteTemplates(directory)).rejects.toMatchObject({
      fault: 'node',
      message: expect.stringMatching(message),
    });
  });
});
