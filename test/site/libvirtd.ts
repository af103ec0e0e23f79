// A libvirtd of our own for machines where no service manager runs one, and for tests: nothing of it is seen
// by, or sees, a libvirtd of the system.
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { VmbatchError } from '../../src/util/errors.ts';
import { startDaemon, waitForDaemon } from './daemon.ts';
import { runSheltered } from './sheltered.ts';

/** What a unix socket's address holds, less the terminating NUL. */
const SOCKET_PATH_BYTES = 107;

/** libvirt's fixed directories, and what stands in for each below our own. */
const DIRECTORIES: readonly (readonly [own: string, system: string])[] = [
  ['etc', '/etc/libvirt'],
  ['run', '/run/libvirt'],
  ['var', '/var/lib/libvirt'],
  ['cache', '/var/cache/libvirt'],
  ['log', '/var/log/libvirt'],
];

/** Network filters as Debian's package has them. */
const SYSTEM_FILTERS = '/usr/share/libvirt/nwfilter';

// Fixed text; what varies comes as arguments: DIR HIDE-KVM.
const START_SCRIPT = `set -e
dir=$1
${DIRECTORIES.map(([own, system]) => `mount --bind "$dir/${own}" ${system}`).join('\n')}
if [ "$2" = yes ]; then
  mount --bind "$dir/no-kvm" /dev/kvm
  mount -o remount,bind,ro /dev/kvm
fi
exec libvirtd --pid-file "$dir/libvirtd.pid"`;

// Root throughout: guests of the demo read images wherever they are. No virtlogd, no cgroups, no security
// driver: a container has none of them.
const QEMU_CONFIG = `user = "root"
group = "root"
security_driver = "none"
stdio_handler = "file"
namespaces = [ ]
`;

const LIBVIRTD_CONFIG = `auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
`;

export interface PrivateLibvirtd {
  /** For `virsh -c`. */
  uri: string;
  /** Of the process to signal; libvirtd is its child. */
  pid: number;
  /** Destroys the domains that still run, since without it nobody could reach them, and ends libvirtd.
   * @param options.keepDomains leaves them running, for a later start in the same directory. */
  stop(options?: { keepDomains?: boolean }): Promise<void>;
}

/** Starts a libvirtd whose configuration, state and socket are below `dir`, and returns when it answers. Root
 * only.
 * @param options.hideKvm takes /dev/kvm from it, see cpuCanVirtualise.
 * @param options.namespace network namespace that it and its guests are in.
 * @param options.signal stops it again as long as it does not answer.
 * @throws VmbatchError `node` if a program is missing, `dir` is too long for a socket, or it does not
 * start. */
export async function startPrivateLibvirtd(
  dir: string,
  options: { hideKvm: boolean; namespace?: string | undefined; signal?: AbortSignal | undefined },
): Promise<PrivateLibvirtd> {
  const own = resolve(dir);
  const socket = join(own, 'run/libvirt-sock');
  if (Buffer.byteLength(socket) > SOCKET_PATH_BYTES) {
    throw new VmbatchError({
      fault: 'node',
      code: 'site-socket-path',
      message: `${socket} has ${Buffer.byteLength(socket)} bytes, a socket's path may have ${SOCKET_PATH_BYTES}`,
      hint: 'use a directory with a shorter name',
    });
  }
  for (const [name, system] of DIRECTORIES) {
    mkdirSync(join(own, name), { recursive: true });
    mkdirSync(system, { recursive: true });
  }
  writeFileSync(join(own, 'etc/libvirtd.conf'), LIBVIRTD_CONFIG);
  writeFileSync(join(own, 'etc/qemu.conf'), QEMU_CONFIG);
  writeFileSync(join(own, 'no-kvm'), '');
  // Its own /etc/libvirt hides those of the system.
  if (existsSync(SYSTEM_FILTERS)) cpSync(SYSTEM_FILTERS, join(own, 'etc/nwfilter'), { recursive: true });
  const hideKvm = options.hideKvm && existsSync('/dev/kvm');
  const log = join(own, 'libvirtd.log');
  // tini: where process 1 is slow to reap, libvirt waits for zombies, eight seconds a connection.
  const daemon = await startDaemon(
    'libvirtd',
    'tini',
    [
      ...['-s', '--', 'unshare', '--mount', '--propagation', 'private'],
      ...['sh', '-c', START_SCRIPT, 'sh', own, hideKvm ? 'yes' : 'no'],
    ],
    {
      log,
      debianPackage: 'tini libvirt-daemon libvirt-daemon-system libvirt-daemon-driver-qemu',
      namespace: options.namespace,
    },
  );
  const uri = `qemu:///system?socket=${encodeURIComponent(socket).replaceAll('%2F', '/')}`;
  await waitForDaemon('libvirtd', daemon, () => answers(uri), 60_000, log, options.signal);
  return {
    uri,
    pid: daemon.pid,
    stop: async ({ keepDomains = false } = {}) => {
      if (!keepDomains && daemon.whyEnded() === undefined) await destroyDomains(uri);
      await daemon.stop(5_000);
    },
  };
}

/** Whether a libvirtd of the system is there to be used as `qemu:///system`. */
export async function systemLibvirtdRunning(): Promise<boolean> {
  // Without a socket virsh may try to start a daemon of its own.
  const sockets = ['/run/libvirt/libvirt-sock', '/run/libvirt/virtqemud-sock'];
  return sockets.some((path) => existsSync(path)) && (await answers('qemu:///system'));
}

/** Whether the processor can run guests. Where it cannot, /dev/kvm may open all the same (in a guest whose
 * host passes it on), and then guests hang at their first instruction. */
export function cpuCanVirtualise(cpuinfo = readFileSync('/proc/cpuinfo', 'utf8')): boolean {
  return /^flags\s*:.*\b(vmx|svm)\b/m.test(cpuinfo);
}

async function destroyDomains(uri: string): Promise<void> {
  const running = await runSheltered('virsh', ['-c', uri, 'list', '--uuid'], { timeoutMs: 5_000 });
  for (const domain of running.stdout.split('\n').filter(Boolean))
    await runSheltered('virsh', ['-c', uri, 'destroy', domain], { timeoutMs: 5_000 });
}

async function answers(uri: string): Promise<boolean> {
  const result = await runSheltered('virsh', ['-c', uri, 'version'], { timeoutMs: 15_000 });
  if (result.notFound) {
    throw new VmbatchError({
      fault: 'node',
      code: 'tool-missing',
      message: 'virsh is not installed',
      hint: 'apt-get install --no-install-recommends libvirt-clients',
    });
  }
  return result.exitCode === 0;
}
