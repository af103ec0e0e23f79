import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createOverlay } from '../../../../src/guest/disk/overlay.ts';
import { readLayer, resolveBacking } from '../../../../src/image/layer/backing.ts';
import {
  loadServiceFiles,
  type PrepareMethod,
  prepareImage,
  pruneLayers,
} from '../../../../src/image/layer/prepare.ts';
import { parseNodeConfig } from '../../../../src/node-file/read.ts';
import { run } from '../../../../src/util/processes/run.ts';
import { bundleProgram, runAtOnce, WAIT_FOR_START } from '../../../support/bundled.ts';
import {
  DEBIAN_SYSTEMD,
  DEBIAN_SYSVINIT,
  MIB,
  makeFileSystem,
  mbr,
  patch,
  RPM_SYSVINIT,
  type Tree,
  writeTree,
} from './disks.ts';

const root = join(import.meta.dirname, '../../../..');
const files = loadServiceFiles((name) => join(root, name));
let folder: string;
let state: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmbatch-layer-'));
  state = join(folder, 'state');
});
afterEach(() => {
  // What a killed one left mounted, its successor removes; where a test failed before, this does.
  spawnQuietly('umount', ['-l', join(state, 'layers/stock/.work/disk')]);
  rmSync(folder, { recursive: true, force: true });
});

function spawnQuietly(file: string, args: string[]): void {
  try {
    execFileSync(file, args, { stdio: 'ignore' });
  } catch {
    // Nothing there: good.
  }
}

/** A raw image with the tree in its first partition. */
function partitionedImage(tree: Tree, path = join(folder, 'stock.img')): string {
  const fileSystem = bareImage(tree, `${path}.fs`);
  writeFileSync(path, '');
  execFileSync('dd', [`if=${fileSystem}`, `of=${path}`, 'bs=1M', 'seek=1', 'status=none']);
  rmSync(fileSystem);
  patch(path, [0, mbr([{ type: 0x83, start: 2048, sectors: 32768 }])]);
  return path;
}

function bareImage(tree: Tree, path = join(folder, 'stock.img')): string {
  const directory = mkdtempSync(join(folder, 'tree-'));
  writeTree(directory, tree);
  makeFileSystem(path, directory);
  rmSync(directory, { recursive: true });
  return path;
}

function imageAt(path: string, format = 'raw') {
  const config = parseNodeConfig(
    `{queues: [q], images: {stock: {path: ${path}, format: ${format}}}, share: {type: nfs, path: /share, server: 'h:/x'}}`,
    'test',
  );
  const image = config.images.get('stock');
  if (image === undefined) throw new Error('no image');
  return image;
}

async function prepare(
  path: string,
  { format = 'raw', force = false, method = 'e2fsprogs' as PrepareMethod } = {},
) {
  const said: string[] = [];
  const image = imageAt(path, format);
  const made = await prepareImage({
    run,
    state,
    image,
    files,
    method,
    force,
    say: (line) => said.push(line),
  });
  return { made, said: said.join('\n'), image, backing: resolveBacking(state, image) };
}

async function withPath(path: string, work: () => Promise<void>): Promise<void> {
  const before = process.env['PATH'];
  process.env['PATH'] = path;
  try {
    await work();
  } finally {
    process.env['PATH'] = before;
  }
}

/** What debugfs says of the layer's file system: through another raw copy, not through what made it. */
function inLayer(disk: string, offset: number, ...commands: string[]): string {
  const raw = join(folder, 'copy.raw');
  execFileSync('qemu-img', ['convert', '-O', 'raw', disk, raw]);
  const script = join(folder, 'commands');
  writeFileSync(script, `${commands.join('\n')}\n`);
  execFileSync('e2fsck', ['-fn', `${raw}?offset=${offset}`], { stdio: 'pipe' });
  return execFileSync('debugfs', ['-f', script, `${raw}?offset=${offset}`], {
    encoding: 'utf8',
    stdio: 'pipe',
  });
}

const hashOf = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

describe('image prepare', () => {
  it('puts the service and its systemd unit into a layer on a partitioned image, which stays as it was', async () => {
    const path = partitionedImage(DEBIAN_SYSTEMD);
    const before = hashOf(path);
    const { made, said, backing } = await prepare(path);
    expect(made).toBe(true);
    expect(said).toBe('stock: ext4 on partition 1, systemd');
    expect(hashOf(path)).toBe(before);
    expect(backing.format).toBe('qcow2');
    const info = execFileSync('qemu-img', ['info', '--output=json', backing.path], { encoding: 'utf8' });
    expect(JSON.parse(info)).toMatchObject({ 'backing-filename': path, 'backing-filename-format': 'raw' });
    const told = inLayer(
      backing.path,
      MIB,
      'cat /usr/lib/vmbatch/vmbatch-guest',
      'stat /usr/lib/vmbatch/vmbatch-guest',
      'stat /etc/systemd/system/multi-user.target.wants/vmbatch-guest.service',
      'cat /etc/systemd/system/vmbatch-guest.service',
    );
    expect(told).toContain(files.service.toString());
    expect(told).toContain(files.systemdUnit.toString());
    expect(told).toMatch(/Type: regular {4}Mode: {2}0755/);
    expect(told).toContain('Fast link dest: "/etc/systemd/system/vmbatch-guest.service"');
    expect(readdirSync(join(state, 'layers/stock')).sort()).toEqual(
      ['layer.json', readLayer(state, 'stock')?.disk].sort(),
    );
  });

  it('empties the machine-id of an image with systemd, wherever systemd would take it from', async () => {
    const id = '0123456789abcdef0123456789abcdef\n';
    const stat = ['stat /etc/machine-id', 'cat /etc/machine-id', 'stat /var/lib/dbus/machine-id'];
    const filled = { ...DEBIAN_SYSTEMD, 'etc/machine-id': id, 'var/lib/dbus/machine-id': id };
    const told = inLayer((await prepare(bareImage(filled))).backing.path, 0, ...stat);
    expect(told).toMatch(/Type: regular {4}Mode: {2}0444/);
    expect(told).toMatch(/Size: 0\b/);
    expect(told).not.toContain(id.trim());
    expect(told).toContain('Fast link dest: "/etc/machine-id"');
    rmSync(join(state, 'layers'), { recursive: true });
    const without = inLayer((await prepare(bareImage(DEBIAN_SYSTEMD))).backing.path, 0, ...stat);
    expect(without).toMatch(/Size: 0\b/);
    expect(without).not.toContain('Fast link dest');
  });

  it('puts an init script with its links into RPM images, with SELinux labels where the image has SELinux', async () => {
    const path = bareImage(RPM_SYSVINIT);
    const { said, backing } = await prepare(path);
    expect(said).toBe('stock: ext4 on the whole disk, System V init (rpm), SELinux');
    const told = inLayer(
      backing.path,
      0,
      'stat /etc/rc.d/init.d/vmbatch-guest',
      'stat /etc/rc.d/rc3.d/S99vmbatch-guest',
      'stat /usr/lib/vmbatch/vmbatch-guest',
    );
    expect(told).toMatch(/Mode: {2}0755/);
    expect(told).toContain('Fast link dest: "../init.d/vmbatch-guest"');
    expect(told).toContain('"system_u:object_r:initrc_exec_t:s0"');
    expect(told).toContain('"system_u:object_r:bin_t:s0"');
  });

  it('works on qcow2 images, and on Debian ones with a System V init', async () => {
    const raw = bareImage(DEBIAN_SYSVINIT);
    const path = join(folder, 'stock.qcow2');
    execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, path]);
    const before = hashOf(path);
    const { said, backing } = await prepare(path, { format: 'qcow2' });
    expect(said).toContain('System V init (debian)');
    expect(inLayer(backing.path, 0, 'stat /etc/rc2.d/S99vmbatch-guest')).toContain(
      '"../init.d/vmbatch-guest"',
    );
    expect(hashOf(path)).toBe(before);
  });

  it('does nothing the second time, but makes the layer anew for another service or when forced', async () => {
    const path = bareImage(DEBIAN_SYSTEMD);
    const first = await prepare(path);
    expect((await prepare(path)).made).toBe(false);
    const forced = await prepare(path, { force: true });
    expect(forced.made).toBe(true);
    expect(forced.backing.path).not.toBe(first.backing.path);
    files.service = Buffer.concat([files.service, Buffer.from('# newer\n')]);
    expect((await prepare(path)).made).toBe(true);
  });

  it('keeps a layer that a job stands on, and removes it when the job is over', async () => {
    const path = bareImage(DEBIAN_SYSTEMD);
    const { backing, image } = await prepare(path);
    mkdirSync(join(state, 'jobs/1.test'), { recursive: true });
    const overlay = join(state, 'jobs/1.test/overlay.qcow2');
    await createOverlay(run, backing, overlay);
    await prepare(path, { force: true });
    const later = Date.now() + 7_200_000;
    const old = backing.path.split('/').at(-1);
    expect(pruneLayers(state, 'stock', later)).toEqual([old]);
    execFileSync('qemu-img', ['check', '-q', overlay]);
    rmSync(overlay);
    // What was given to a job a moment ago stays for a while.
    expect(pruneLayers(state, 'stock', Date.now())).toEqual([old]);
    expect(pruneLayers(state, 'stock', later)).toEqual([]);
    expect(existsSync(resolveBacking(state, image).path)).toBe(true);
  });

  it('notices an image that changed under its layer, and makes another when asked to', async () => {
    const path = bareImage(DEBIAN_SYSTEMD);
    const { image } = await prepare(path);
    utimesSync(path, new Date(), new Date(1e12));
    expect(() => resolveBacking(state, image)).toThrow('is not what its layer on this node was made on');
    expect((await prepare(path)).made).toBe(true);
    expect(resolveBacking(state, image).format).toBe('qcow2');
  });

  it('replays the journal of an image that was not shut down, in the layer alone', async () => {
    const path = bareImage(DEBIAN_SYSTEMD);
    execFileSync('debugfs', ['-w', '-f', '-', path], {
      input: 'jo\njw -b 4000 /dev/zero\njc\n',
      stdio: 'pipe',
    });
    const before = hashOf(path);
    expect(execFileSync('dumpe2fs', ['-h', path], { encoding: 'utf8', stdio: 'pipe' })).toContain(
      'needs_recovery',
    );
    const { backing } = await prepare(path);
    expect(hashOf(path)).toBe(before);
    expect(inLayer(backing.path, 0, 'stat /usr/lib/vmbatch/vmbatch-guest')).toContain('0755');
  });

  it.each([
    [
      'an image without SSH server',
      { 'usr/sbin/sshd': undefined },
      'its root file system lacks an SSH server (OpenSSH or dropbear)',
    ],
    [
      'an image with neither init nor ip',
      { 'usr/lib/systemd/systemd': undefined, 'usr/bin/ip': undefined },
      'its root file system lacks ip (iproute2), systemd or a System V init',
    ],
    [
      'a file system that is no root',
      { 'etc/passwd': undefined },
      'no ext4 file system with /etc/passwd was found; there is ext4',
    ],
  ])('refuses %s, and leaves nothing', async (_name, without, message) => {
    const tree = Object.fromEntries(Object.entries(DEBIAN_SYSTEMD).filter(([path]) => !(path in without)));
    await expect(prepare(bareImage(tree))).rejects.toThrow(message);
    expect(readdirSync(join(state, 'layers/stock'))).toEqual([]);
  });

  it('names a file system that only libguestfs can write to', async () => {
    const path = join(folder, 'stock.img');
    writeFileSync(path, Buffer.alloc(4 * MIB));
    patch(path, [0, mbr([{ type: 0x83, start: 2048, sectors: 2048 }])], [MIB, Buffer.from('XFSB')]);
    await expect(prepare(path)).rejects.toMatchObject({
      code: 'image-unsuitable',
      message: expect.stringContaining('there is XFS on partition 1'),
      hint: expect.stringContaining('libguestfs-tools'),
    });
  });

  it('fails clearly when the image is full', async () => {
    const directory = join(folder, 'full');
    writeTree(directory, DEBIAN_SYSTEMD);
    const path = join(folder, 'stock.img');
    makeFileSystem(path, directory, MIB);
    const filler = join(folder, 'filler');
    writeFileSync(filler, Buffer.alloc(MIB, 'x'));
    execFileSync('debugfs', ['-w', '-f', '-', path], { input: `write ${filler} filler\n`, stdio: 'pipe' });
    await expect(prepare(path)).rejects.toThrow(/\/usr\/lib\/vmbatch\/vmbatch-guest could not be written/);
  });

  const program = () => {
    const bundle = join(folder, 'prepare.cjs');
    bundleProgram(
      `${WAIT_FOR_START}
      import { parseNodeConfig } from './src/node-file/read.ts';
      import { loadServiceFiles, prepareImage } from './src/image/layer/prepare.ts';
      import { run } from './src/util/processes/run.ts';
      const [state, node] = process.argv.slice(2);
      const image = parseNodeConfig(node, 'test').images.get('stock');
      const files = loadServiceFiles((name) => ${JSON.stringify(`${root}/`)} + name);
      prepareImage({ run, state, image, files, method: 'e2fsprogs', force: false, say: () => {} })
        .then((made) => process.stdout.write(made ? 'made' : 'found'));`,
      root,
      bundle,
    );
    return bundle;
  };
  const nodeFile = (path: string) =>
    `{queues: [q], images: {stock: {path: ${path}, format: raw}}, share: {type: nfs, path: /share, server: 'h:/x'}}`;

  it('makes one layer when three are started at once', async () => {
    const path = bareImage(DEBIAN_SYSTEMD);
    const outputs = await runAtOnce(program(), () => [state, nodeFile(path)], 3);
    expect(outputs.sort()).toEqual(['found', 'found', 'made']);
    expect(readdirSync(join(state, 'layers/stock'))).toHaveLength(2);
  });

  it('leaves a killed one no daemon, and the next removes the rest', async () => {
    const path = bareImage(DEBIAN_SYSTEMD);
    const child = spawn(process.execPath, [program(), state, nodeFile(path)], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const pidFile = join(state, 'layers/stock/.work/daemon.pid');
    while (!existsSync(pidFile) || readFileSync(pidFile, 'utf8') === '')
      await new Promise((resolve) => setTimeout(resolve, 2));
    const pid = readFileSync(pidFile, 'utf8').trim();
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('close', resolve));
    for (let round = 0; isAlive(pid) && round < 100; round++)
      await new Promise((resolve) => setTimeout(resolve, 20));
    expect(isAlive(pid)).toBe(false);
    expect(readLayer(state, 'stock')).toBeUndefined();
    expect((await prepare(path)).made).toBe(true);
    expect(readdirSync(join(state, 'layers/stock'))).toHaveLength(2);
    expect(readFileSync('/proc/mounts', 'utf8')).not.toContain(folder);
  });

  it('uses guestfish where it is installed: one script that it stops at the first failure of', async () => {
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    writeFileSync(
      join(bin, 'guestfish'),
      `#!/bin/sh
[ "$1" = --version ] && exit 0
echo "args $*" >>${folder}/guestfish.log
while read -r verb path rest; do
  echo "$verb $path $rest" >>${folder}/guestfish.log
  case $verb in exists) case $path in /etc/selinux/config|/etc/rc*|/etc/init.d) echo false ;; *) echo true ;; esac ;; esac
done
`,
      { mode: 0o755 },
    );
    const path = bareImage(RPM_SYSVINIT);
    await withPath(`${bin}:${process.env['PATH']}`, async () => {
      const { said } = await prepare(path, { method: 'auto' });
      expect(said).toContain('stock: libguestfs, systemd');
    });
    const log = readFileSync(join(folder, 'guestfish.log'), 'utf8');
    expect(log).toContain('args --format=qcow2 --rw -a layer.qcow2 -i\n');
    expect(log).toContain('upload file-0 /usr/lib/vmbatch/vmbatch-guest\n');
    expect(log).toContain('chmod 0755 /usr/lib/vmbatch/vmbatch-guest\n');
    expect(log).toContain(
      'ln-s /etc/systemd/system/vmbatch-guest.service /etc/systemd/system/multi-user.target.wants/vmbatch-guest.service\n',
    );
    expect(log).not.toContain('lsetxattr');
  });

  it('tells what guestfish says of its failure, not how to report a bug', async () => {
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    const text =
      '[ "$1" = --version ] && exit 0\necho "libguestfs: error: appliance closed the connection" >&2\necho "or report a bug" >&2\nexit 1\n';
    writeFileSync(join(bin, 'guestfish'), `#!/bin/sh\n${text}`, { mode: 0o755 });
    const path = bareImage(DEBIAN_SYSTEMD);
    await withPath(`${bin}:${process.env['PATH']}`, async () => {
      await expect(prepare(path, { method: 'libguestfs' })).rejects.toMatchObject({
        code: 'layer-failed',
        message: 'guestfish cannot work on the image: appliance closed the connection',
        hint: expect.stringContaining('--method e2fsprogs'),
      });
    });
    expect(readdirSync(join(state, 'layers/stock'))).toEqual([]);
  });

  it('says so when libguestfs is asked for and absent', async () => {
    const path = bareImage(DEBIAN_SYSTEMD);
    const bin = join(folder, 'bin');
    mkdirSync(bin);
    symlinkSync(
      execFileSync('sh', ['-c', 'command -v qemu-img'], { encoding: 'utf8' }).trim(),
      join(bin, 'qemu-img'),
    );
    await withPath(bin, async () => {
      await expect(prepare(path, { method: 'libguestfs' })).rejects.toThrow('guestfish is not installed');
    });
  });
});

function isAlive(pid: string): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
