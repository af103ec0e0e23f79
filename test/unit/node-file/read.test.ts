// The node file: the documented example, every default, and what an admin is told about mistakes.
import {
  chmodSync,
  chownSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseDocument } from 'yaml';
import { BUILT_IN_DEFAULTS, loadNodeConfig, parseNodeConfig } from '../../../src/node-file/read.ts';
import { allowedKeys } from '../../../src/node-file/schema.ts';
import { formatError, VmbatchError } from '../../../src/util/errors.ts';

const ROOT = join(import.meta.dirname, '../../..');
const GOLDEN = join(ROOT, 'test/golden/config');
const MINIMAL = `
queues: [vmalice]
images: { demo: { path: /images/demo.qcow2 } }
share: { type: nfs, server: "10.0.2.2:/share", path: /shared }
`;

function failure(action: () => unknown): VmbatchError {
  try {
    action();
  } catch (error) {
    if (error instanceof VmbatchError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const message = (text: string) => failure(() => parseNodeConfig(text, 'node.yaml')).message;

describe('loadNodeConfig', () => {
  it('reads the documented example', () => {
    const config = loadNodeConfig(join(ROOT, 'share/examples/node.yaml'));
    expect(config).toMatchObject({
      queues: ['vmalice'],
      state: '/var/lib/vmbatch',
      log: '/var/log/vmbatch',
      hypervisor: { type: 'auto', uri: 'qemu:///system' },
      defaultImage: 'demo',
      network: { type: 'user', addressing: 'dhcp' },
      share: {
        type: 'nfs',
        server: '10.0.2.2:/share',
        path: '/shared',
        version: '4.1',
        port: 2049,
        options: ['hard'],
      },
      readyDirectory: '/shared/.vmbatch/ready',
      disk: { freeFloorBytes: 5 * 1024 ** 3 },
      timeouts: {
        readyMs: 280_000,
        virshMs: 60_000,
        sshConnectMs: 30_000,
        epilogueMs: 60_000,
        reconnectMs: 300_000,
      },
    });
    expect(config.images.get('demo')).toEqual({
      name: 'demo',
      path: '/var/cache/vmbatch/demo-image/template.qcow2',
      format: 'qcow2',
      sha256: undefined,
      signed: false,
      contextualisation: 'prepared',
      sshKeys: 'ed25519',
      hypervisors: ['kvm', 'qemu'],
      boot: {
        type: 'kernel',
        kernel: '/var/cache/vmbatch/demo-image/vmlinuz',
        initrd: '/var/cache/vmbatch/demo-image/initrd.img',
        commandLine: 'console=ttyS0 quiet',
      },
      vcpus: { default: 1, maximum: 4 },
      memory: { defaultBytes: 512 * 1024 ** 2, maximumBytes: 2 * 1024 ** 3 },
      diskBytes: 0,
      queues: undefined,
      groups: undefined,
    });
    expect(config.images.get('disk-image')).toMatchObject({
      path: '/var/lib/vmbatch-images/disk-image.qcow2',
      boot: { type: 'disk' },
    });
  });

  it('follows a symbolic link, and names a file that is missing or no text', () => {
    const directory = mkdtempSync(join(tmpdir(), 'vmbatch-node-'));
    try {
      writeFileSync(join(directory, 'shared.yaml'), MINIMAL);
      symlinkSync('shared.yaml', join(directory, 'node.yaml'));
      expect(loadNodeConfig(join(directory, 'node.yaml')).queues).toEqual(['vmalice']);
      writeFileSync(join(directory, 'latin1.yaml'), Buffer.from('log: /\xe9\n', 'latin1'));
      for (const [name, why] of [
        ['absent.yaml', 'does not exist'],
        ['latin1.yaml', 'is not UTF-8 text'],
      ] as const)
        expect(failure(() => loadNodeConfig(join(directory, name)))).toMatchObject({
          fault: 'node',
          code: 'config-unreadable',
          message: `node file ${join(directory, name)}: ${why}`,
        });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

it('the example shows every key of the schema', () => {
  const example = readFileSync(join(ROOT, 'share/examples/node.yaml'), 'utf8');
  const below = (path: PropertyKey[]): string[] =>
    allowedKeys(path).flatMap((key) => [
      key,
      ...(path.length > 3
        ? []
        : [...below([...path, key]), ...below([...path, key, 'demo']), ...below([...path, key, 0])]),
    ]);
  const keys = [...new Set(below([]))];
  expect(keys).toEqual(
    expect.arrayContaining(['queues', 'command_line', 'address6', 'heartbeat', 'hs06', 'server']),
  );
  const written = (key: string) => new RegExp(`(^|[{,#]|- \\{) *${key}:`, 'm').test(example);
  expect(keys.filter((key) => !written(key))).toEqual([]);
});

describe('parseNodeConfig', () => {
  it('assumes exactly the built-in defaults for keys that are left out', () => {
    const document = parseDocument(MINIMAL);
    for (const [key, value] of Object.entries(BUILT_IN_DEFAULTS))
      if (!key.includes(' ')) document.setIn(key.replace('*', 'demo').split('.'), value);
    document.setIn(['default_image'], 'demo');
    document.setIn(['ready_directory'], '/shared/.vmbatch/ready');
    const written = String(document);
    const assumed = parseNodeConfig(MINIMAL, 'node.yaml');
    expect(parseNodeConfig(written, 'node.yaml')).toEqual(assumed);
    expect(assumed.disk.freeFloorBytes).toBe(1024 ** 3);
    expect(assumed.share.options).toEqual([]);
    expect(assumed.defaultImage).toBe('demo');
  });

  it('reads values that are not the defaults', () => {
    const config = parseNodeConfig(
      `${MINIMAL}
state: /srv/vmbatch/
hypervisor: { type: kvm, uri: "qemu+unix:///system?socket=/run/private.sock" }
network: { addressing: static }
timeouts: { ready: 500 ms, epilogue: 2min }
disk: { free_floor: 0 KiB }
`,
      'node.yaml',
    );
    expect(config.state).toBe('/srv/vmbatch');
    expect(config.hypervisor).toMatchObject({
      type: 'kvm',
      uri: 'qemu+unix:///system?socket=/run/private.sock',
    });
    expect(config.network.addressing).toBe('static');
    expect(config.timeouts).toMatchObject({ readyMs: 500, epilogueMs: 120_000, virshMs: 60_000 });
    expect(config.disk.freeFloorBytes).toBe(0);
  });

  it.each([
    ['agent', '{}', 'file, ssh'],
    ['agent', '{ type: libvirt, name: guests }', 'file'],
    ['ssh', '{ type: bridge, name: br0 }', 'file'],
  ])(
    'refuses ready_channel %s on network %s where the job starter waits for the guest',
    (channel, network, allowed) => {
      const text = `${MINIMAL}\nnetwork: ${network}\nready_channel: ${channel}\n`;
      expect(parseNodeConfig(text, 'node.yaml').readyChannel).toBe(channel);
      expect(message(`${text}prologue_mode: started\n`)).toContain(
        `ready_channel: found "${channel}", allowed with prologue_mode started on this network: ${allowed}`,
      );
      const static4 =
        '{ type: bridge, name: br0, addressing: static, prefix_length: 24, pool: [{ address: 192.0.2.2 }] }';
      expect(
        parseNodeConfig(
          `${MINIMAL}\nnetwork: ${static4}\nready_channel: ssh\nprologue_mode: started\n`,
          'node.yaml',
        ).prologueMode,
      ).toBe('started');
    },
  );

  it('lets images share settings through anchors, and places their problems', () => {
    const text = (maximum: string) => `
queues: [a]
images:
  one: { path: /one.qcow2, memory: &memory { maximum: ${maximum} } }
  two: { path: /two.qcow2, memory: *memory }
default_image: two
share: { type: nfs, server: "[fe80::1]:/", path: /shared, version: 4 }
`;
    const config = parseNodeConfig(text('8 GiB'), 'node.yaml');
    expect(config.images.get('two')?.memory.maximumBytes).toBe(8 * 1024 ** 3);
    expect(config.share).toMatchObject({ version: '4.0', server: '[fe80::1]:/' });
    expect(message(text('8 GB'))).toMatch(
      /^2 problems in the node file\n {2}node\.yaml:4:55: images\.one\.memory\.maximum: .*\n {2}node\.yaml:4:55: images\.two\.memory\.maximum: /,
    );
  });

  it('takes names of built-in properties for what they are: image names, and unknown keys', () => {
    const config = parseNodeConfig(MINIMAL.replace('demo:', 'constructor:'), 'node.yaml');
    expect(config.images.get('constructor')?.path).toBe('/images/demo.qcow2');
    expect(message(`${MINIMAL}__proto__: { state: /evil }\n`)).toMatch(
      /^node\.yaml:5:1: __proto__: is no known key/,
    );
  });

  it('reports every problem at once, each with place, key, found value and what is allowed', async () => {
    const name = 'node-with-problems.yaml';
    const error = failure(() => parseNodeConfig(readFileSync(join(GOLDEN, name), 'utf8'), name));
    expect(error).toMatchObject({ fault: 'node', code: 'config-invalid' });
    await expect(`${formatError(error)}\n`).toMatchFileSnapshot(join(GOLDEN, 'node-with-problems.txt'));
  });

  const top =
    'queues, prologue_mode, starts, memory, max_load, guard, state, log, hypervisor, images, default_image, signatures, network, share, mounts, ready_channel, ready_directory, cvmfs, time, context, disk, features, debug, timeouts';
  it.each([
    ['an empty file', '', `node.yaml:1:1: the file: found nothing, allowed: a mapping with the keys ${top}`],
    ['a list', '- x', `node.yaml:1:1: the file: found ["x"], allowed: a mapping with the keys ${top}`],
    [
      'a key that stands there twice',
      'log: /a\nlog: /b\n',
      'node.yaml:2:1: log stands here again, and first in line 1: keep one of the two',
    ],
    [
      'a key of a mapping that stands twice, far from each other',
      'guard: { faults: 1 }\nqueues: [a]\nguard: { node: a }\n',
      'node.yaml:3:1: guard stands here again, and first in line 1: keep one of the two',
    ],
    [
      'a key at the level above its own',
      `${MINIMAL}pbs_bin_path: /usr/local/bin\n`,
      `node.yaml:5:1: pbs_bin_path: is no known key (did you mean guard.pbs_bin_path?), allowed: ${top}`,
    ],
    [
      'a key at the level below its own',
      `${MINIMAL}guard: { default_image: demo }\n`,
      'node.yaml:5:10: guard.default_image: is no known key (did you mean default_image?), allowed: faults, return, self_test_every, self_test_user, node, pbs_bin_path',
    ],
    [
      'broken YAML',
      'queues: [a\nlog: /b',
      'node.yaml:2:1: not valid YAML: Flow sequence in block collection must be sufficiently indented and end with a ]',
    ],
    ['an unknown tag', 'log: !path /b', 'node.yaml:1:6: not valid YAML: Unresolved tag: !path'],
    [
      'an alias without anchor',
      'log: *where',
      'node.yaml:1:1: not valid YAML: Unresolved alias (the anchor must be set before the alias): where',
    ],
    [
      'no image at all',
      MINIMAL.replace(/images: .*/, 'images: {}'),
      'node.yaml:3:1: images: found no image, required: at least one',
    ],
    [
      'several images without default_image',
      MINIMAL.replace(/images: .*/, 'images: { a: { path: /a }, b: { path: /b } }'),
      'node.yaml:1:1: default_image: is missing, required when there are several images: one of a, b',
    ],
    [
      'a missing share',
      MINIMAL.replace(/share: .*/, ''),
      'node.yaml:1:1: share: is missing, required: a mapping with the keys type, server, path, version, port, options',
    ],
    [
      'a path with a line break',
      `${MINIMAL}state: "/var\\nlib"`,
      'node.yaml:5:8: state: found "/var\\nlib", allowed: an absolute path without "." and ".." parts and without control characters',
    ],
    [
      'a kernel command line with a line break',
      MINIMAL.replace('qcow2', 'qcow2, boot: { kernel: /k, initrd: /i, command_line: "a\\nb" }'),
      'node.yaml:3:91: images.demo.boot.command_line: found "a\\nb", allowed: text on one line, at most 1024 characters',
    ],
    [
      'a ready directory that only begins like the share',
      `${MINIMAL}ready_directory: /shared-not/ready`,
      'node.yaml:5:18: ready_directory: found "/shared-not/ready", allowed: a path below share.path, "/shared", since the guest writes there',
    ],
  ])('refuses %s', (_, text, expected) => {
    expect(message(text)).toBe(expected);
  });
});

describe('numbers', () => {
  it.each([
    '022',
    '0x16',
    '0o26',
    '3.0',
    '3.5',
    '3e0',
    '+3',
    '1_0',
    '"3"',
    "'3'",
    '!!int "022"',
    '!!float "3.0"',
    '.inf',
    '-1',
    '99999999999999999999',
    '3 # x\n  return: &a manual\n  node: 022 3',
  ])('are as everybody reads them, or refused: guard.faults: %s', (written) => {
    const text = message(`${MINIMAL}guard:\n  faults: ${written}\n`);
    expect(text).toMatch(
      /guard\.(faults|node): found .*, allowed: (a whole number from 0 to 1000|a host name)/,
    );
  });

  it('takes point-to-point and host networks, and refuses a gateway that a guest would be', () => {
    const pool = (rest: string) =>
      `${MINIMAL}network: { type: bridge, name: b, addressing: static, pool: [{ address: 192.0.2.7 }], ${rest} }\n`;
    for (const length of [31, 32]) {
      const { network } = parseNodeConfig(
        pool(`prefix_length: ${length}, gateway: 198.51.100.1`),
        'node.yaml',
      );
      expect(network.static).toMatchObject({ prefixLength: length, gateway: '198.51.100.1' });
    }
    expect(message(pool('prefix_length: 33'))).toMatch(/allowed: a whole number from 8 to 32/);
    expect(message(pool('prefix_length: 24, gateway: 192.0.2.7'))).toMatch(
      /network\.pool\[0\]\.address: found "192\.0\.2\.7", which is the gateway/,
    );
  });

  it.each([
    [
      'network: { type: bridge, name: br0, addressing: static, pool: [{ address: 192.0.2.7 }], prefix_length: 024 }',
    ],
    ['hypervisor: { cpu_shares: 0100 }'],
    ['features: { hs06: 012 }'],
    ['debug: { consoles: 2e1 }'],
    ['starts: 04'],
    ['starts: "4"'],
    ['max_load: 02.5'],
    ['max_load: 1e1'],
    ['timeouts: { ready: 0280 s }'],
    ['disk: { wait: 030 s }'],
    ['disk: { cache: 020 GiB }'],
    ['debug: { keep_on_failure: 010 min }'],
    ['memory: { free_floor: 064 MiB }'],
    ['mounts: [{ type: nfs, server: "h:/a", path: /a, port: 02049 }]'],
    ['mounts: [{ type: nfs, server: "h:/a", path: /a, version: 4.10 }]'],
    ['mounts: [{ type: nfs, server: "h:/a", path: /a, version: 4e0 }]'],
  ])('are refused wherever they stand: %s', (line) => {
    expect(message(`${MINIMAL}${line}\n`)).toMatch(/node\.yaml:\d+:\d+: .*found .*allowed: /);
  });

  it('are refused with another version of YAML, too', () => {
    expect(message(`%YAML 1.1\n---${MINIMAL}guard: { faults: 1_0 }\n`)).toContain('found "1_0"');
  });

  it('may have a fraction where one has a meaning', () => {
    const load = (text: string) => parseNodeConfig(`${MINIMAL}max_load: ${text}\n`, 'n').maxLoad;
    expect(['2', '2.5', '2.50', '2.0', 'off'].map(load)).toEqual([2, 2.5, 2.5, 2, undefined]);
    const share = (text: string) =>
      parseNodeConfig(MINIMAL.replace('path: /shared', `path: /shared, version: ${text}`), 'n').share;
    expect(['3', '4', '4.0', '4.2', '"4.1"'].map(share)).toMatchObject(
      ['3', '4.0', '4.0', '4.2', '4.1'].map((version) => ({ version })),
    );
  });
});

describe('directories', () => {
  it.each([
    ['log: /proc', 'log'],
    ['log: /proc/self/fd', 'log'],
    ['log: /sys/fs', 'log'],
    ['state: /dev/shm/vmbatch', 'state'],
    ['state: vmbatch', 'state'],
    ['state: /var/lib/../lib/vmbatch', 'state'],
    ['network: { type: bridge, name: b, lock_directory: /proc/locks }', 'network.lock_directory'],
    ['network: { type: bridge, name: b, lock_directory: /var/lib/vmbatch/jobs }', 'network.lock_directory'],
    ['network: { type: bridge, name: b, lock_directory: /var/lib/vmbatch }', 'network.lock_directory'],
    ['mounts: [{ type: 9p, path: /sys }]', 'mounts[0].path'],
    ['mounts: [{ type: 9p, path: /shared }]', 'mounts[0].path'],
    ['mounts: [{ type: 9p, path: /a }, { type: 9p, path: /b }, { type: 9p, path: /a }]', 'mounts[2].path'],
    ['mounts: [{ type: 9p, path: /soft ware }]', 'mounts[0].path'],
    ['disk: { scratch: { path: /dev/scratch } }', 'disk.scratch.path'],
    ['disk: { scratch: { path: /shared/scratch, maximum: 1 GiB } }', 'disk.scratch.path'],
    ['signatures: { ca_directory: /proc/1 }', 'signatures.ca_directory'],
    ['hypervisor: { templates: /shared/templates }', 'hypervisor.templates'],
    ['context: { templates: /shared/templates }', 'context.templates'],
    ['context: { before_job: /shared/before }', 'context.before_job'],
    ['guard: { pbs_bin_path: /shared/bin }', 'guard.pbs_bin_path'],
    ['state: /shared/vmbatch', 'state'],
    ['log: /shared/log', 'log'],
    ['mounts: [{ type: 9p, path: /software }]\nlog: /software', 'log'],
    ['log: /var/lib/vmbatch', 'log'],
    ['log: /var/lib/vmbatch/log', 'log'],
    ['state: /var/log/vmbatch/state', 'log'],
    ['ready_directory: /shared/rea dy', 'ready_directory'],
  ])('that cannot be are refused: %s', (line, key) => {
    const escaped = key.replaceAll(/[[\].]/g, '\\$&');
    expect(message(`${MINIMAL}${line}\n`)).toMatch(
      new RegExp(`node\\.yaml:\\d+:\\d+: ${escaped}: found .*, allowed: `),
    );
  });

  it.each(['/my share', '/share\t', "/share'"])(
    'an export that guests cannot mount is refused: %s',
    (path) => {
      expect(message(MINIMAL.replace('10.0.2.2:/share', `10.0.2.2:${path}`))).toMatch(
        /share\.server: found .*, allowed: host:\/export without blanks/,
      );
    },
  );

  it('that are right side by side are taken', () => {
    const text = `${MINIMAL}
state: /srv/vmbatch
log: /srv/vmbatch-log
mounts: [{ type: 9p, path: /shared/software }, { type: 9p, path: /process }]
disk: { scratch: { path: /shared2, maximum: 1 GiB } }
`;
    expect(parseNodeConfig(text, 'n').mounts).toHaveLength(2);
  });
});

describe.runIf(process.getuid?.() === 0)('a node file that is not root alone to write', () => {
  it('is refused, and so is one that others can put another in the place of', () => {
    const directory = mkdtempSync(join(tmpdir(), 'vmbatch-node-'));
    const at = (name: string) => join(directory, name);
    const NOBODY = 65534;
    const load = (name: string) => {
      try {
        return loadNodeConfig(at(name)).queues[0];
      } catch (error) {
        if (error instanceof VmbatchError && error.code === 'config-unsafe') return error.message;
        throw error;
      }
    };
    try {
      for (const name of ['safe', 'open', 'theirs', 'sticky']) mkdirSync(at(name));
      for (const name of ['safe', 'open', 'theirs', 'sticky'])
        writeFileSync(at(`${name}/node.yaml`), MINIMAL);
      chmodSync(at('open'), 0o777);
      chmodSync(at('sticky'), 0o1777);
      chownSync(at('theirs'), NOBODY, NOBODY);
      expect(load('safe/node.yaml')).toBe('vmalice');
      expect(load('sticky/node.yaml')).toBe('vmalice');
      expect(load('open/node.yaml')).toContain(
        `${at('open')} may be written to by others than root (mode 777)`,
      );
      expect(load('theirs/node.yaml')).toContain(`${at('theirs')} belongs to uid ${NOBODY}`);
      // Links, each on a way that leads through a directory of somebody else's.
      symlinkSync('../open/node.yaml', at('safe/link.yaml'));
      symlinkSync(at('safe/node.yaml'), at('open/link.yaml'));
      symlinkSync(at('open/link.yaml'), at('safe/chain.yaml'));
      symlinkSync('node.yaml', at('safe/good.yaml'));
      expect(load('safe/link.yaml')).toContain('open may be written');
      expect(load('safe/chain.yaml')).toContain('open may be written');
      expect(load('safe/good.yaml')).toBe('vmalice');
      lchownSync(at('safe/good.yaml'), NOBODY, NOBODY);
      expect(load('safe/good.yaml')).toContain(`good.yaml belongs to uid ${NOBODY}`);
      for (const mode of [0o646, 0o664, 0o666, 0o777]) {
        chmodSync(at('safe/node.yaml'), mode);
        expect(load('safe/node.yaml')).toContain('node.yaml may be written to by others than root');
      }
      chmodSync(at('safe/node.yaml'), 0o644);
      chownSync(at('safe/node.yaml'), NOBODY, 0);
      expect(load('safe/node.yaml')).toContain(`belongs to uid ${NOBODY}`);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
