// Whether a share is mounted where it should be. An empty mount point is a directory like any other: what is
// written there lies below the share once it is mounted, and no guest sees it.
import { lookup } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MountConfig, NodeConfig } from '../../node-file/config.ts';
import { VmbatchError } from '../../util/errors.ts';
import { ownAddresses } from '../../util/own-addresses.ts';

/** File systems that are on this machine alone: none of them is the share of another. */
const LOCAL = new Set([
  ...['ext2', 'ext3', 'ext4', 'xfs', 'btrfs', 'f2fs', 'jfs', 'reiserfs', 'zfs', 'bcachefs', 'vfat'],
  ...['tmpfs', 'ramfs', 'rootfs', 'overlay', 'aufs', 'squashfs', 'iso9660', 'erofs'],
]);

/** What the machine says of itself, for tests to put something else in its place. */
export interface MountSources {
  mountinfo: () => string;
  fstab: () => string;
  /** What the kernel's NFS server exports. */
  exports: () => string;
  addresses: () => string[];
  hostName: () => string;
  /** Addresses of a name; none if nobody knows it, or nobody answers in time. */
  resolve: (name: string) => Promise<string[]>;
}

const RESOLVE_MS = 2_000;

const read = (path: string) => () => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
};

const THIS_MACHINE: MountSources = {
  mountinfo: read('/proc/self/mountinfo'),
  fstab: read('/etc/fstab'),
  exports: read('/var/lib/nfs/etab'),
  addresses: ownAddresses,
  hostName: hostname,
  resolve: (name) =>
    Promise.race([
      lookup(name, { all: true }).then((found) => found.map(({ address }) => address)),
      sleep(RESOLVE_MS, [], { ref: false }),
    ]).catch(() => []),
};

/** Checks the share, and what else the hypervisor passes from this node into guests.
 * @throws VmbatchError `node` (`share-not-mounted`) if one of the places is an empty mount point */
export async function checkMounted(
  config: Pick<NodeConfig, 'share' | 'mounts'>,
  sources = THIS_MACHINE,
): Promise<void> {
  const { share, mounts } = config;
  const passed = mounts.filter(({ type }) => type !== 'nfs');
  for (const mount of [share, ...passed]) await checkPlace(mount, sources);
}

async function checkPlace(share: MountConfig, sources: MountSources): Promise<void> {
  const mounts = mountsOf(sources.mountinfo());
  const there = mounts
    .filter(({ path }) => isIn(share.path, path))
    .sort((a, b) => b.path.length - a.path.length)[0];
  if (there === undefined) return;
  const planned = plannedMount(sources.fstab(), share.path);
  if (planned !== undefined && !mounts.some(({ path }) => path === planned))
    throw refuse(share, `/etc/fstab has ${planned}, and nothing is mounted there`, `mount ${planned}`);
  if (share.type !== 'nfs' || !LOCAL.has(there.type)) return;
  if (await isServedHere(share, sources)) return;
  throw refuse(
    share,
    `it is a directory of this node's own file system (${there.type} on ${there.path}), and ${share.server} is another machine's`,
    `mount ${share.server} there; where this node is the server itself, let share.server name one of its addresses`,
  );
}

interface Mount {
  path: string;
  type: string;
}

/** Field 5 is where it is, and the type comes first after the hyphen. */
function mountsOf(mountinfo: string): Mount[] {
  return mountinfo.split('\n').flatMap((line) => {
    const fields = line.split(' ');
    const [path, type] = [fields[4], fields[fields.indexOf('-') + 1]];
    return path === undefined || type === undefined ? [] : [{ path: unescaped(path), type }];
  });
}

/** The mount point of /etc/fstab in which the path lies, other than the root; undefined: none. */
function plannedMount(fstab: string, path: string): string | undefined {
  return fstab
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(
      ([source, , , options]) => source?.startsWith('#') === false && !/(^|,)noauto(,|$)/.test(options ?? ''),
    )
    .map(([, point]) => unescaped(point ?? '').replace(/(.)\/+$/, '$1'))
    .filter((point) => point.startsWith('/') && point !== '/' && isIn(path, point))
    .sort((a, b) => b.length - a.length)[0];
}

/** Blanks and the like stand as `\040`. */
const unescaped = (text: string) =>
  text.replaceAll(/\\([0-7]{3})/g, (_whole, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

async function isServedHere(
  share: Extract<MountConfig, { type: 'nfs' }>,
  sources: MountSources,
): Promise<boolean> {
  const host = share.server
    .slice(0, share.server.lastIndexOf(':/'))
    .replace(/^\[|\]$/g, '')
    .toLowerCase();
  // QEMU's user network calls the host so.
  if (/^(10\.0\.2\.2|fec0::2)$/.test(host)) return true;
  const own = sources.hostName().toLowerCase();
  if (host === 'localhost' || host === own || host.startsWith(`${own}.`) || own.startsWith(`${host}.`))
    return true;
  const isExported = sources
    .exports()
    .split('\n')
    .some((line) => isIn(share.path, unescaped(line.split(/\s+/)[0] ?? '')));
  if (isExported) return true;
  const addresses = isIP(host) === 0 ? await sources.resolve(host) : [host];
  const ours = sources.addresses();
  return addresses.some((address) => /^(127\.|::1$)/.test(address) || ours.includes(address));
}

function isIn(path: string, directory: string): boolean {
  if (directory === '') return false;
  return directory === '/' || path === directory || path.startsWith(`${directory}/`);
}

function refuse(share: MountConfig, why: string, hint: string): VmbatchError {
  return new VmbatchError({
    fault: 'node',
    code: 'share-not-mounted',
    message: `the share is not mounted at ${share.path}: ${why}`,
    hint,
  });
}
