import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { checkNode, NODE_CHECKS } from '../../../../src/node/check/check-node.ts';
import { installHooks } from '../../../../src/node/hooks/install.ts';
import { parseNodeConfig } from '../../../../src/node-file/read.ts';
import type { CheckResult } from '../../../../src/util/check.ts';
import { type Run, type RunResult, run } from '../../../../src/util/processes/run.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmbatch-check-node-'));
  for (const name of ['share/.vmbatch/ready', 'mom/jobs', 'context'])
    mkdirSync(join(folder, name), { recursive: true });
  mkdirSync(join(folder, 'bin'));
  writeFileSync(join(folder, 'bin/pbsnodes'), '', { mode: 0o755 });
  writeFileSync(join(folder, 'template.qcow2'), Buffer.from('514649fb00000003', 'hex'));
  // An account that is not root is to reach the program.
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, 'vmbatch'), '');
  writeFileSync(join(folder, 'mom/config'), `$job_starter ${folder}/job-starter\n`);
  delete process.env['LIBVIRT_DEFAULT_URI'];
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const ANSWER: RunResult = {
  ...{ command: '', exitCode: 0, signal: undefined, stdout: '', stderr: '', timedOut: false },
  ...{ cancelled: false, notFound: false, seconds: 0 },
};

interface Given {
  extra?: string;
  image?: string;
  network?: string;
  /** Programs that the mom's PATH leads to; default: all. */
  found?: string[];
  netInfo?: string;
}

/** As an admin does, for the usual node file. */
function install() {
  const configFile = join(folder, 'node.yaml');
  const text = nodeFile({});
  writeFileSync(configFile, text);
  installHooks({
    config: parseNodeConfig(text, configFile),
    configFile,
    momDirectory: join(folder, 'mom'),
    jobStarter: join(folder, 'job-starter'),
    node: process.execPath,
    vmbatch: join(folder, 'vmbatch'),
  });
}

function nodeFile({ extra = '', image = '', network = 'user' }: Given): string {
  return `queues: [vmalice]
state: ${folder}/state
images: { demo: { path: ${folder}/template.qcow2, ${image} } }
network: { type: ${network} }
share: { type: nfs, server: "10.0.2.2:/share", path: ${folder}/share }
hypervisor: { type: qemu, uri: "qemu:///session?socket=${folder}/none" }
disk: { free_floor: 1 MiB }
guard: { pbs_bin_path: ${folder}/bin }
${extra}
`;
}

async function check({ extra = '', image = '', network = 'user', found, netInfo = '' }: Given = {}) {
  const configFile = join(folder, 'node.yaml');
  writeFileSync(configFile, nodeFile({ extra, image, network }));
  if (found !== undefined) {
    mkdirSync(join(folder, 'path'));
    for (const name of found) writeFileSync(join(folder, 'path', name), '#!/bin/sh\n', { mode: 0o755 });
    writeFileSync(join(folder, 'pbs_environment'), `PATH=${folder}/path\nLANG=C\n`);
  }
  const pretend: Run = async (file, args, options) => {
    // The images here are headers only.
    if (file.startsWith(join(folder, 'bin')) || file === 'qemu-img') return ANSWER;
    if (args.includes('net-info')) return { ...ANSWER, stdout: netInfo };
    return run(file, args, options);
  };
  const results = await checkNode({
    configFile,
    momDirectory: join(folder, 'mom'),
    vmbatch: join(folder, 'vmbatch'),
    run: pretend,
  });
  return (name: string): CheckResult => {
    const own = results.filter((result) => result.check === name);
    return own.find(({ state }) => state !== 'ok') ?? own[0] ?? expect.fail(`no row ${name}`);
  };
}

describe('vmbatch check node', () => {
  it('finds nothing wrong where all is there, but for the hypervisor that does not answer', async () => {
    install();
    const row = await check();
    // No libvirt listens here, and only it says who QEMU is.
    const STATES: Readonly<Record<string, string>> = { hypervisor: 'failed', reach: 'skipped' };
    for (const { name } of NODE_CHECKS) expect([name, row(name).state]).toEqual([name, STATES[name] ?? 'ok']);
    expect(row('guests').found).toBe('demo: a qemu guest with 1 cpu');
    expect(row('node-file').found).toBe(`${folder}/node.yaml: 1 queue, 1 image`);
  });

  it("finds a mistake in the site's user-data, with file and line", async () => {
    writeFileSync(join(folder, 'context/10-own.cloud-config.ejs'), 'fine: 1\nbroken: <%= it.nonsense.x %>\n');
    const guests = (await check({ extra: `context: { templates: ${folder}/context }` }))('guests');
    expect(guests.state).toBe('failed');
    expect(guests.found).toContain('10-own.cloud-config.ejs');
    expect(guests.found).toMatch(/line 2/);
  });

  it('finds a mistake in an own domain template, and a script that is not there', async () => {
    mkdirSync(join(folder, 'domain'));
    writeFileSync(join(folder, 'domain/domain-qemu.xml.ejs'), '<domain><%= it.nope.x %></domain>\n');
    const row = await check({ extra: `context: { prolog: ${folder}/none.sh }` });
    expect(row('guests').found).toContain('none.sh');
    writeFileSync(join(folder, 'node.yaml'), '');
    const other = await check({ extra: '' });
    expect(other('guests').state).toBe('ok');
  });

  it.each<[string, string, Given, RegExp]>([
    ['an image that is not there', 'images', { image: 'format: raw' }, /the node file says raw/],
    [
      'a kernel that is not there',
      'images',
      { image: 'boot: { kernel: /none/vmlinuz, initrd: /none/initrd }' },
      /\/none\/vmlinuz/,
    ],
    [
      'an image for another hypervisor',
      'guests',
      { image: 'hypervisors: [xen]' },
      /is for xen, and this node has qemu/,
    ],
    [
      'a bridge that is not there',
      'network',
      { network: 'bridge, name: vmb-none' },
      /there is no bridge vmb-none/,
    ],
    [
      'a libvirt network that is not active',
      'network',
      { network: 'libvirt, name: guests', netInfo: 'Name: guests\nActive:         no\n' },
      /the network guests of libvirt is not active/,
    ],
    [
      "a program that the mom's PATH does not lead to",
      'programs',
      { found: ['virsh'] },
      /qemu-img is in \/usr\/bin, and the mom's hooks look in .*\/path \(.*pbs_environment\)/,
    ],
    ['too little room', 'state', { extra: '', image: '' }, /are free/],
  ])('finds %s', async (_name, row, given, found) => {
    const result = (await check(given))(row);
    expect(result.found).toMatch(found);
    expect(result.state).toBe(row === 'state' ? 'ok' : 'failed');
  });

  it('says that the share is not there', async () => {
    rmSync(join(folder, 'share'), { recursive: true });
    expect((await check())('share')).toMatchObject({
      state: 'failed',
      found: expect.stringContaining('cannot be used'),
    });
  });

  it('says that the clock of the share is another than this one', async () => {
    const now = Date.now();
    vi.spyOn(Date, 'now').mockImplementation(() => now - 3_600_000);
    try {
      expect((await check())('share')).toMatchObject({
        state: 'warning',
        found: expect.stringMatching(/the clock of the share .* is 60 min ahead of this node's/),
      });
    } finally {
      vi.restoreAllMocks();
    }
  });

  it('allows an image that only some queues and groups may use', async () => {
    const row = await check({ image: 'queues: [vmalice], groups: [vmb-some-group]' });
    expect(row('guests')).toMatchObject({ state: 'ok' });
  });
});
