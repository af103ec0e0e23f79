import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { main } from '../../../../src/commands/image.ts';
import { loadNodeConfig } from '../../../../src/node-file/read.ts';
import { DEBIAN_SYSTEMD, makeFileSystem, writeTree } from '../layer/disks.ts';

let folder: string;
let nodeFile: string;
let output: string;
let errors: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmbatch-catalogue-'));
  const link = join(folder, 'node.yaml');
  nodeFile = join(folder, 'real.yaml');
  writeFileSync(
    nodeFile,
    `# Our nodes.
queues: [vmalice]
state: ${folder}/state
images:
  base: # as it came
    path: ${qcow2('base')}
share: {type: nfs, path: /share, server: "nfs.example.org:/x"} # the old one
`,
    { mode: 0o640 },
  );
  symlinkSync(nodeFile, link);
  output = '';
  errors = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    output += String(text);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    errors += String(text);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true, force: true });
});

function qcow2(name: string, ...args: string[]): string {
  const path = join(folder, `${name}.qcow2`);
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', ...args, path, '16M']);
  return path;
}

const image = (...args: string[]) => main([...args, '--config', join(folder, 'node.yaml')]);
const hashOf = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

/** A job's disk on an image. */
function jobOn(path: string, jobId = '7.test'): string {
  const directory = join(folder, 'state/jobs', jobId);
  mkdirSync(directory, { recursive: true });
  const overlay = join(directory, 'overlay.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', path, '-F', 'qcow2', overlay]);
  return overlay;
}

describe('vmbatch image', () => {
  it('adds an image with its hash, keeps comments, mode and link, and names the default that there was', async () => {
    const path = qcow2('big');
    await image(
      'add',
      'big',
      '--path',
      path,
      '--memory',
      '4 GiB:16 GiB',
      '--vcpus',
      '2:8',
      '--queues',
      'vmalice',
    );
    const text = readFileSync(nodeFile, 'utf8');
    expect(text).toContain('# Our nodes.\n');
    expect(text).toContain('# as it came\n');
    expect(text).toContain('# the old one\n');
    expect(statSync(nodeFile).mode & 0o777).toBe(0o640);
    const config = loadNodeConfig(nodeFile);
    expect(config.defaultImage).toBe('base');
    expect(config.images.get('big')).toMatchObject({
      path,
      sha256: hashOf(path),
      vcpus: { default: 2, maximum: 8 },
      memory: { defaultBytes: 4 * 1024 ** 3, maximumBytes: 16 * 1024 ** 3 },
      queues: ['vmalice'],
    });
    expect(output).toContain('added big');
  });

  it.each([
    ['a name that is taken', ['base', '--path', 'base.qcow2'], 'image base stands in'],
    ['an impossible name', ['a/b', '--path', 'base.qcow2'], 'images."a/b"'],
    [
      'limits the wrong way round',
      ['x', '--path', 'base.qcow2', '--memory', '8 GiB:1 GiB'],
      'is more than the maximum',
    ],
    ['a file that is not there', ['x', '--path', 'none.qcow2'], 'none.qcow2 cannot be read'],
    [
      'another format than it has',
      ['x', '--path', 'base.qcow2', '--format', 'raw'],
      'the node file says raw',
    ],
    [
      'another hash than it has',
      ['x', '--path', 'base.qcow2', '--sha256', '0'.repeat(64)],
      'has the SHA-256',
    ],
    ['a signature that is not there', ['x', '--path', 'base.qcow2', '--signed'], 'has no signature'],
    ['half a limit', ['x', '--path', 'base.qcow2', '--vcpus', '2'], 'allowed: DEFAULT:MAXIMUM'],
    ['an initrd without a kernel', ['x', '--path', 'base.qcow2', '--initrd', 'i'], 'go with --kernel'],
  ])('refuses %s, and the node file stays as it was', async (_name, args, message) => {
    const before = readFileSync(nodeFile, 'utf8');
    const given = args.map((arg) => (arg.endsWith('.qcow2') ? join(folder, arg) : arg));
    await expect(image('add', ...given)).rejects.toThrow(message);
    expect(readFileSync(nodeFile, 'utf8')).toBe(before);
  });

  it('verifies all images, tells each problem, and fails if there is one', async () => {
    await image('add', 'big', '--path', qcow2('big'));
    expect(await image('verify')).toBe(0);
    expect(output).toContain('base: is there; nothing to compare with');
    expect(output).toContain('big: good: SHA-256');
    rmSync(join(folder, 'base.qcow2'));
    writeFileSync(join(folder, 'big.qcow2'), readFileSync(join(folder, 'big.qcow2')).fill(1, 1000, 1001));
    expect(await image('verify')).toBe(3);
    expect(errors).toContain('base.qcow2 cannot be read (ENOENT)');
    expect(errors).toContain('has the SHA-256');
    await expect(image('verify', 'none')).rejects.toThrow('there is no image none; there is base, big');
  });

  it('prepares a layer, lists it, and says when the image changed under it', async () => {
    const tree = join(folder, 'tree');
    writeTree(tree, DEBIAN_SYSTEMD);
    const path = join(folder, 'stock.img');
    makeFileSystem(path, tree);
    await image('add', 'stock', '--path', path, '--format', 'raw');
    await image('prepare');
    expect(errors).toContain('no image has a layer yet');
    await image('prepare', 'stock', '--method', 'e2fsprogs');
    expect(output).toMatch(/stock: prepared in [\d.]+ s/);
    await image('prepare');
    expect(output).toContain('stock: is up to date');
    output = '';
    await image('list', '--json');
    expect(JSON.parse(output)).toMatchObject([
      { name: 'base', isDefault: true, layer: 'none', jobs: [] },
      { name: 'stock', isDefault: false, layer: 'current', format: 'raw', bytes: 16 * 1024 ** 2 },
    ]);
    writeFileSync(path, '');
    output = '';
    await image('list');
    expect(output).toMatch(/^stock +raw +0 MiB +disk +prepared +stale +0 /m);
    await image('remove', 'stock', '--layer');
    expect(existsSync(join(folder, 'state/layers/stock'))).toBe(false);
    expect(loadNodeConfig(nodeFile).images.has('stock')).toBe(true);
  });

  it('does not remove an image that a job stands on, and removes it afterwards', async () => {
    const path = qcow2('big');
    await image('add', 'big', '--path', path);
    const overlay = jobOn(path);
    await expect(image('remove', 'big', '--delete-file')).rejects.toMatchObject({
      code: 'image-in-use',
      message: 'image big is in use by 1 job: 7.test',
    });
    expect(existsSync(path)).toBe(true);
    rmSync(overlay);
    await image('remove', 'big', '--delete-file');
    expect(existsSync(path)).toBe(false);
    expect([...loadNodeConfig(nodeFile).images.keys()]).toEqual(['base']);
    expect(readFileSync(nodeFile, 'utf8')).toContain('# as it came');
  });

  it('does not delete a file that another image stands on, nor the default or the only image', async () => {
    const child = qcow2('child', '-b', 'base.qcow2', '-F', 'qcow2');
    await expect(image('remove', 'base')).rejects.toThrow('is the only one');
    await image('add', 'child', '--path', child);
    await expect(image('remove', 'base', '--delete-file')).rejects.toThrow('is also what child stands on');
    await expect(image('remove', 'base')).rejects.toThrow('is the default_image');
    expect(existsSync(join(folder, 'base.qcow2'))).toBe(true);
  });
});
