import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { buildDemoImage } from '../../../../src/image/demo/build.ts';
import { hashInputs, RECIPE, readManifest, whyOutdated } from '../../../../src/image/demo/manifest.ts';
import { GUEST_PACKAGES } from '../../../../src/image/demo/packages.ts';
import { INITRAMFS_MODULES, ROOT_MODULES } from '../../../../src/image/demo/rootfs.ts';
import type { Run } from '../../../../src/util/processes/run.ts';
import { buildModule, buildProgram } from './elf-builder.ts';

const RELEASE = '6.1.0-99-cloud-amd64';
const APPLETS =
  'base64 busybox cat chmod chown cp cut date dd env grep head id init insmod ip kill ln mkdir mkfifo modprobe ' +
  'mount mv nproc poweroff rm sed setsid sh sha256sum sleep su switch_root tail time timeout udhcpc umount usleep wc';

let work: string;
let calls: string[];
/** What the stand-in programs do otherwise than they should. */
let broken: {
  missing?: string;
  failing?: string;
  applets?: string;
  /** apt's lists are old: this call fails until there was an update. */
  outdated?: 'apt-cache depends' | 'apt-get download';
};
let updated: boolean;
/** Arguments of mke2fs, and the modes of what it was given, by path. */
let disk: { args: readonly string[]; modes: Map<string, string> };

/** Stands in for apt, dpkg, mke2fs and qemu-img: leaves the files that they would. */
const fakeRun: Run = async (file, args, options) => {
  const program = file.split('/').at(-1) ?? '';
  calls.push(program === 'apt-get' ? `${program} ${args[0]}` : program);
  const result = {
    command: [program, ...args].join(' '),
    exitCode: 0,
    signal: undefined,
    stdout: '',
    stderr: '',
    timedOut: false,
    cancelled: false,
    notFound: false,
    seconds: 0,
  };
  if (broken.missing === program) return { ...result, exitCode: undefined, notFound: true };
  if (broken.failing === program)
    return { ...result, exitCode: 100, stderr: 'W: something\nE: no such thing\n' };
  if (program === 'apt-get' && args[0] === 'update') {
    updated = true;
    return result;
  }
  if (!updated && broken.outdated === `${program} ${args[0]}`) {
    // As apt does: a lookup says nothing and ends well, a download fails half-way.
    if (program === 'apt-cache') return result;
    writeFileSync(join(options?.cwd ?? '', 'bash_0-old_amd64.deb'), 'old');
    return { ...result, exitCode: 100, stderr: 'E: 404  Not Found\n' };
  }
  if (program === 'apt-cache')
    return { ...result, stdout: `linux-image-cloud-amd64\n  Depends: linux-image-${RELEASE}\n` };
  if (program === 'busybox') return { ...result, stdout: (broken.applets ?? APPLETS).replaceAll(' ', '\n') };
  if (program === 'apt-get')
    for (const name of args.slice(4))
      writeFileSync(join(options?.cwd ?? '', `${name}_1%3a2.0-1_amd64.deb`), name);
  if (program === 'dpkg-deb') unpack(String(args[1]), String(args[2]));
  if (program === 'mke2fs') disk = { args, modes: modesBelow(String(args[args.indexOf('-d') + 1])) };
  if (program === 'qemu-img') writeFileSync(String(args.at(-1)), 'disk');
  return result;
};

function modesBelow(directory: string): Map<string, string> {
  const paths = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  return new Map(['.', ...paths].map((path) => [path, modeOf(join(directory, path))]));
}

/** `755`; `link` for a symbolic link. */
function modeOf(path: string): string {
  const found = lstatSync(path);
  return found.isSymbolicLink() ? 'link' : (found.mode & 0o7777).toString(8);
}

function unpack(deb: string, tree: string): void {
  const put = (path: string, data: Buffer | string) => {
    mkdirSync(join(tree, path, '..'), { recursive: true });
    writeFileSync(join(tree, path), data);
  };
  const program = buildProgram(['libc.so.6'], '/lib64/ld-linux-x86-64.so.2');
  const content: Record<string, string[]> = {
    bash: ['bin/bash'],
    'busybox-static': ['bin/busybox'],
    'dropbear-bin': [
      'usr/sbin/dropbear',
      'usr/bin/dropbearkey',
      'usr/bin/dbclient',
      'usr/lib/dropbear/dropbearconvert',
    ],
    e2fsprogs: ['sbin/mke2fs', 'sbin/e2fsck'],
    time: ['usr/bin/time'],
  };
  const name = deb.split('/').at(-1)?.split('_')[0] ?? '';
  for (const path of content[name] ?? []) put(path, program);
  if (name === 'libc6')
    for (const library of ['libc.so.6', 'ld-linux-x86-64.so.2'])
      put(`lib/x86_64-linux-gnu/${library}`, buildProgram([]));
  if (!name.startsWith('linux-image-')) return;
  put(`boot/vmlinuz-${RELEASE}`, 'kernel');
  for (const module of new Set([...INITRAMFS_MODULES, ...ROOT_MODULES]))
    put(`lib/modules/${RELEASE}/kernel/${module}.ko`, buildModule([`name=${module}`]));
}

const build = (directory: string, force = false) => buildDemoImage({ directory, force, run: fakeRun });

beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), 'vmbatch-image-'));
  calls = [];
  broken = {};
  updated = false;
  vi.spyOn(process, 'getuid').mockReturnValue(0);
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(work, { recursive: true });
});

describe('buildDemoImage', () => {
  it('makes the four files and says in the manifest what they are made of', async () => {
    const directory = join(work, 'image');
    const result = await build(directory);
    expect(result.built).toBe(true);
    expect(readdirSync(directory).sort()).toEqual([
      ...['initrd.img', 'manifest.json', 'template.qcow2', 'vmlinuz'],
    ]);
    expect(readdirSync(work)).toEqual(['image']);
    expect(readManifest(directory)).toEqual(result.manifest);
    expect(result.manifest).toMatchObject({ kernelRelease: RELEASE, files: { vmlinuz: { bytes: 6 } } });
    expect(result.manifest.packages).toHaveLength(GUEST_PACKAGES.length + 1);
    expect(result.manifest.packages[0]).toMatchObject({ name: 'bash', version: '1:2.0-1' });
  });

  it('starts no program when the image is up to date, and builds again when forced', async () => {
    const directory = join(work, 'image');
    await build(directory);
    calls = [];
    expect((await build(directory)).built).toBe(false);
    expect(calls).toEqual([]);
    expect((await build(directory, true)).built).toBe(true);
  });

  it('builds again when a file of the image is missing, damaged or of another version', async () => {
    const directory = join(work, 'image');
    await build(directory);
    writeFileSync(join(directory, 'template.qcow2'), 'dusk');
    expect(whyOutdated(directory)).toBe('template.qcow2 is damaged');
    expect((await build(directory)).built).toBe(true);
    rmSync(join(directory, 'vmlinuz'));
    expect(whyOutdated(directory)).toBe('vmlinuz is missing');
    expect((await build(directory)).built).toBe(true);
    writeFileSync(join(directory, 'manifest.json'), '{"version":99}');
    expect(whyOutdated(directory)).toBe('there is no image');
    expect((await build(directory)).built).toBe(true);
    expect(whyOutdated(directory)).toBeUndefined();
  });

  it('notices in the manifest that what goes into the image has changed', async () => {
    const directory = join(work, 'image');
    const { manifest } = await build(directory);
    const [first, ...others] = manifest.packages;
    if (first === undefined) throw new Error('no packages');
    expect(hashInputs([{ ...first, version: '2' }, ...others])).not.toBe(manifest.inputs);
    const path = join(directory, 'manifest.json');
    writeFileSync(path, readFileSync(path, 'utf8').replace('1:2.0-1', '1:2.0-2'));
    expect(whyOutdated(directory)).toBe('what goes into it has changed');
  });

  it.each(Object.keys(RECIPE))('notices a change of the %s in the recipe', async (key) => {
    const { manifest } = await build(join(work, 'image'));
    expect(hashInputs(manifest.packages, RECIPE)).toBe(manifest.inputs);
    expect(hashInputs(manifest.packages, { ...RECIPE, [key]: ['other'] })).not.toBe(manifest.inputs);
  });

  it('has in the recipe what decides on the trees and the disk', async () => {
    await build(join(work, 'image'));
    const recipe = JSON.stringify(RECIPE);
    for (const option of disk.args.slice(0, disk.args.indexOf('-d'))) expect(recipe).toContain(`"${option}"`);
    for (const word of [...INITRAMFS_MODULES, ...ROOT_MODULES, ...GUEST_PACKAGES, 'usr/bin/dropbearconvert'])
      expect(recipe).toContain(`"${word}"`);
    for (const word of ['udhcpc', 'poweroff', 'var/tmp', '2147483648']) expect(recipe).toContain(word);
  });

  it('leaves one whole image when two build at once', async () => {
    const directory = join(work, 'image');
    await Promise.all([build(directory), build(directory), build(directory)]);
    expect(readdirSync(work)).toEqual(['image']);
    expect(whyOutdated(directory)).toBeUndefined();
  });

  it('refuses a directory that holds something else and leaves it alone', async () => {
    writeFileSync(join(work, 'thesis.tex'), 'years of work');
    await expect(build(work)).rejects.toThrow(`${work} holds more than an image: thesis.tex`);
    expect(existsSync(join(work, 'thesis.tex'))).toBe(true);
  });

  it('names the Debian package of a program that is missing, and leaves nothing behind', async () => {
    broken.missing = 'mke2fs';
    await expect(build(join(work, 'image'))).rejects.toMatchObject({
      fault: 'node',
      code: 'tool-missing',
      hint: 'apt-get install e2fsprogs',
    });
    expect(readdirSync(work)).toEqual([]);
  });

  it('keeps the old image and says what a program said when it fails', async () => {
    const directory = join(work, 'image');
    await build(directory);
    broken.failing = 'apt-get';
    await expect(build(directory, true)).rejects.toMatchObject({
      message: 'building the image failed: apt-get exited with 100: E: no such thing',
      hint: 'see whether apt-get update reaches the package sources',
    });
    expect(whyOutdated(directory)).toBeUndefined();
  });

  it.each(['apt-cache depends', 'apt-get download'] as const)(
    "updates apt's lists and tries again when %s fails",
    async (outdated) => {
      broken.outdated = outdated;
      const { manifest } = await build(join(work, 'image'));
      expect(calls.filter((call) => call === 'apt-get update')).toHaveLength(1);
      expect(manifest.packages.map(({ version }) => version)).not.toContain('0-old');
      expect(readdirSync(work)).toEqual(['image']);
    },
  );

  it("updates apt's lists once at most", async () => {
    broken.failing = 'apt-cache';
    await expect(build(join(work, 'image'))).rejects.toThrow('apt-cache exited with 100');
    expect(calls).toEqual(['apt-cache', 'apt-get update', 'apt-cache']);
  });

  it("makes the same image whatever root's umask is, readable for all", async () => {
    await build(join(work, 'plain'));
    const plain = disk.modes;
    const before = process.umask(0o077);
    try {
      await build(join(work, 'a', 'b'));
      expect(process.umask()).toBe(0o077);
    } finally {
      process.umask(before);
    }
    expect(disk.modes).toEqual(plain);
    expect([plain.get('.'), plain.get('usr/lib/modules'), plain.get('tmp')]).toEqual(['755', '755', '1777']);
    for (const path of ['a', 'a/b']) expect(modeOf(join(work, path))).toBe('755');
    for (const name of readdirSync(join(work, 'a/b'))) expect(modeOf(join(work, 'a/b', name))).toBe('644');
  });

  it('refuses a busybox without a program that the guest service needs', async () => {
    broken.applets = APPLETS.replace(' udhcpc', '');
    await expect(build(join(work, 'image'))).rejects.toThrow('lacks what the guest needs: udhcpc');
  });

  it('refuses to build as anybody but root', async () => {
    vi.spyOn(process, 'getuid').mockReturnValue(1000);
    await expect(build(join(work, 'image'))).rejects.toMatchObject({ code: 'not-root' });
  });
});
