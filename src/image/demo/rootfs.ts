// The demo guest's two file trees: the initramfs that finds the disk, and the root file system on it.
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { VmbatchError } from '../../util/errors.ts';
import type { Run } from '../../util/processes/run.ts';
import { resourcePath } from '../../util/program/resources.ts';
import { type CpioEntry, writeCpio } from './cpio.ts';
import { findLibraries } from './libraries.ts';
import { formatModulesAlias, formatModulesDep, type KernelModule } from './modules.ts';
import { runTool } from './tools.ts';

/** Drivers for the disk: they must be in the initramfs, for the cloud kernel has them as modules. */
export const INITRAMFS_MODULES: readonly string[] = ['virtio_pci', 'virtio_blk'];

/** Drivers that the running guest may load: network, CD-ROM, shares. */
export const ROOT_MODULES: readonly string[] = [
  'virtio_pci',
  'virtio_net',
  'virtio-rng',
  'isofs',
  'ata_piix',
  'sr_mod',
  'nfsv3',
  'nfsv4',
  'virtiofs',
  'overlay',
];

/** Programs with shared libraries, where Debian's packages have them, and where the guest gets them. */
const PROGRAMS: readonly (readonly [from: string, to: string])[] = [
  ['bin/bash', 'usr/bin/bash'],
  ['usr/bin/time', 'usr/bin/time'],
  ['usr/sbin/dropbear', 'usr/sbin/dropbear'],
  ['usr/bin/dropbearkey', 'usr/bin/dropbearkey'],
  ['usr/lib/dropbear/dropbearconvert', 'usr/bin/dropbearconvert'],
  ['usr/bin/dbclient', 'usr/bin/dbclient'],
  ['sbin/mke2fs', 'usr/sbin/mke2fs'],
  ['sbin/e2fsck', 'usr/sbin/e2fsck'],
];

/** What the guest service and the job's session use of busybox: an image without one of them is no use. */
const NEEDED_APPLETS: readonly string[] = [
  ...['base64', 'cat', 'chmod', 'chown', 'cp', 'cut', 'date', 'dd', 'env', 'grep', 'head', 'id', 'init'],
  ...['insmod', 'ip', 'kill', 'ln', 'mkdir', 'mkfifo', 'modprobe', 'mount', 'mv', 'nproc', 'poweroff', 'rm'],
  ...[
    'sed',
    'setsid',
    'sh',
    'sha256sum',
    'sleep',
    'su',
    'switch_root',
    'tail',
    'timeout',
    'udhcpc',
    'umount',
  ],
  ...['usleep', 'wc'],
];

/** The programs of Debian's busybox that stand in /usr/sbin, where the kernel and init look for them. */
const SYSTEM_APPLETS: ReadonlySet<string> = new Set(['init', 'insmod', 'modprobe', 'poweroff', 'reboot']);

/** The guest's own files: below share/guest → in the guest. */
export const GUEST_FILES: readonly (readonly [from: string, to: string, mode: number])[] = [
  ['vmbatch-guest', 'usr/lib/vmbatch/vmbatch-guest', 0o755],
  ['udhcpc-script', 'usr/lib/vmbatch/udhcpc-script', 0o755],
  ['demo/rcS', 'etc/init.d/rcS', 0o755],
  ['demo/etc/group', 'etc/group', 0o644],
  ['demo/etc/hostname', 'etc/hostname', 0o644],
  ['demo/etc/hosts', 'etc/hosts', 0o644],
  ['demo/etc/inittab', 'etc/inittab', 0o644],
  ['demo/etc/nsswitch.conf', 'etc/nsswitch.conf', 0o644],
  ['demo/etc/os-release', 'etc/os-release', 0o644],
  ['demo/etc/passwd', 'etc/passwd', 0o644],
  ['demo/etc/profile', 'etc/profile', 0o644],
  ['demo/etc/shadow', 'etc/shadow', 0o600],
  ['demo/etc/shells', 'etc/shells', 0o644],
];

/** The first program of the initramfs, below share/guest. */
export const INITRAMFS_INIT = 'demo/init';

const DIRECTORIES: readonly (readonly [path: string, mode: number])[] = [
  ...['dev', 'etc/init.d', 'home', 'mnt', 'proc', 'run', 'srv', 'sys', 'usr/bin', 'usr/sbin'].map(plain),
  ...['usr/lib/x86_64-linux-gnu', 'usr/lib64', 'usr/lib/vmbatch', 'usr/local/bin', 'var/lib', 'var/log'].map(
    plain,
  ),
  ['root', 0o700],
  ['tmp', 0o1777],
  ['var/tmp', 0o1777],
];

/** Everything above that says what goes into the trees, besides packages and our own files: for the
 * manifest. */
export const TREE_RECIPE = {
  initramfsModules: INITRAMFS_MODULES,
  rootModules: ROOT_MODULES,
  programs: PROGRAMS,
  neededApplets: NEEDED_APPLETS,
  systemApplets: [...SYSTEM_APPLETS],
  directories: DIRECTORIES,
} as const;

/** The initramfs as bytes. */
export function buildInitramfs(tree: string, modules: readonly KernelModule[]): Buffer {
  const entries: CpioEntry[] = [
    ...['bin', 'dev', 'modules', 'root'].map((path) => ({ path, mode: 0o755 })),
    { path: 'bin/busybox', mode: 0o755, data: readFileSync(join(tree, 'bin/busybox')) },
    { path: 'init', mode: 0o755, data: readFileSync(resourcePath(`share/guest/${INITRAMFS_INIT}`)) },
    // Numbered, since init loads them in the order of their names.
    ...modules.map((module, index) => ({
      path: `modules/${String(index).padStart(2, '0')}-${module.name}.ko`,
      mode: 0o644,
      data: module.bytes,
    })),
  ];
  return writeCpio(entries);
}

/** Puts the root file system together below `root`.
 * @throws VmbatchError `node` if a package lacks what the guest needs. */
export async function buildRoot(
  run: Run,
  tree: string,
  root: string,
  release: string,
  modules: readonly KernelModule[],
): Promise<void> {
  for (const [path, mode] of DIRECTORIES) {
    mkdirSync(join(root, path), { recursive: true });
    chmodSync(join(root, path), mode);
  }
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${name}`, join(root, name));
  await installBusybox(run, tree, root);
  for (const [from, to] of PROGRAMS) install(join(tree, from), join(root, to), 0o755);
  const libraries = findLibraries(
    tree,
    PROGRAMS.map(([from]) => from),
  );
  for (const [name, path] of libraries) install(path, join(root, 'usr/lib/x86_64-linux-gnu', name), 0o755);
  symlinkSync('../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2', join(root, 'usr/lib64/ld-linux-x86-64.so.2'));
  for (const [from, to, mode] of GUEST_FILES)
    install(resourcePath(`share/guest/${from}`), join(root, to), mode);

  const moduleRoot = join(root, 'usr/lib/modules', release);
  for (const module of modules) {
    const path = join(moduleRoot, module.path);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, module.bytes);
  }
  writeFileSync(join(moduleRoot, 'modules.dep'), formatModulesDep(modules));
  writeFileSync(join(moduleRoot, 'modules.alias'), formatModulesAlias(modules));
}

async function installBusybox(run: Run, tree: string, root: string): Promise<void> {
  const busybox = join(tree, 'bin/busybox');
  install(busybox, join(root, 'usr/bin/busybox'), 0o755);
  const applets = (await runTool(run, busybox, ['--list'])).stdout.split('\n').filter(Boolean);
  const missing = NEEDED_APPLETS.filter((applet) => !applets.includes(applet));
  if (missing.length > 0) {
    throw new VmbatchError({
      fault: 'node',
      code: 'applet-missing',
      message: `the package busybox-static lacks what the guest needs: ${missing.join(', ')}`,
    });
  }
  const real = new Set(PROGRAMS.map(([, to]) => to));
  for (const applet of applets) {
    const path = `${SYSTEM_APPLETS.has(applet) ? 'usr/sbin' : 'usr/bin'}/${applet}`;
    if (applet !== 'busybox' && !real.has(path)) symlinkSync('/usr/bin/busybox', join(root, path));
  }
}

function install(from: string, to: string, mode: number): void {
  if (!existsSync(from)) {
    throw new VmbatchError({
      fault: 'node',
      code: 'image-build-failed',
      message: `building the image failed: no package brought ${from}`,
    });
  }
  copyFileSync(from, to);
  chmodSync(to, mode);
}

function plain(path: string): readonly [string, number] {
  return [path, 0o755];
}
