// The node file: the documented example, every default, and what an admin is told about mistakes.
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseDocument } from 'yaml';
import { BUILT_IN_DEFAULTS, loadNodeConfig, parseNodeConfig } from '../../../src/config/node.ts';
import { allowedKeys } from '../../../src/config/node-schema.ts';
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
      path: '/var/lib/vmbatch-images/demo/template.qcow2',
      format: 'qcow2',
      sha256: undefined,
      signed: false,
      contextualisation: 'prepared',
      hypervisors: ['kvm', 'qemu'],
      boot: {
        type: 'kernel',
        kernel: '/var/lib/vmbatch-images/demo/vmlinuz',
        initrd: '/var/lib/vmbatch-images/demo/initrd.img',
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
    ['a key that stands there twice', 'log: /a\nlog: /b\n', 'node.yaml:2:1: this key stands here twice'],
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
