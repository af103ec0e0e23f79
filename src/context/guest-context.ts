// What a guest is told about its job, and context.sh, in which it is told.
import type { Contextualisation } from '../node-file/config.ts';
import { renderTemplate } from '../util/templates/template.ts';

/** All that the guest service needs. Times in seconds since 1970, ids as numbers. */
export interface GuestContext {
  jobId: string;
  /** Ties the ready file to this start of this job. */
  nonce: string;
  hostname: string;
  user: {
    name: string;
    uid: number;
    group: string;
    gid: number;
    /** Supplementary groups that the share may ask for. */
    groups: { name: string; gid: number }[];
    home: string;
    shell: string;
  };
  network: GuestNetwork;
  /** Names of CernVM-FS repositories; may be empty. */
  repositories: string[];
  mounts: { type: string; source: string; target: string; options: string[] }[];
  /** Absolute, on the share. */
  readyFile: string;
  /** The guest's ed25519 host key, a private key file in OpenSSH's format. */
  hostKey: string;
  /** One line of authorized_keys: the job's key. */
  authorizedKey: string;
  /** Undefined: the guest's clock is left alone. */
  time: number | undefined;
  /** What only some guests have; absent: none of it. */
  extras?: GuestExtras;
}

/** How the guest comes to its addresses. */
export type GuestNetwork = (
  | { addressing: 'dhcp' }
  | {
      addressing: 'static';
      address: string;
      prefixLength: number;
      gateway: string | undefined;
      /** An IPv6 address besides; without it the network's routers may still give one. */
      address6?: { address: string; prefixLength: number; gateway: string | undefined } | undefined;
    }
) & {
  /** Name servers; with DHCP on top of what the server says. */
  dns?: string[];
  /** Search domain. */
  domain?: string | undefined;
  /** Of the interface to configure; absent: the first. */
  mac?: string | undefined;
};

export interface GuestExtras {
  /** The guest's names of its disks, for guests that see no serial numbers: `vdb:scratch`. */
  disks: string[];
  /** Where the disks are mounted; undefined: there is none. */
  scratch: string | undefined;
  /** `quotaMebibytes`: how much CernVM-FS may keep there. */
  cache: { path: string; quotaMebibytes: number } | undefined;
  /** How the guest says that it is ready. */
  ready: 'file' | 'ssh' | 'agent';
  timeZone: string | undefined;
  ntp: string[];
  cvmfs: { proxy: string | undefined; server: string | undefined };
  /** Whether the disk holds the site's hooks. */
  beforeJob: boolean;
  afterJob: boolean;
  /** Machine/Job Features: a file for each key. */
  machineFeatures: Record<string, string | number>;
  jobFeatures: Record<string, string | number>;
  /** For jobs with several guests. */
  peers?: GuestPeers | undefined;
}

/** How the guests of one job find each other. */
interface GuestPeers {
  /** Which of them this guest is, from 0. */
  rank: number;
  count: number;
  /** On the share; each guest writes its address and keys there. */
  directory: string;
  /** A key pair of this guest's own, for SSH to the others. */
  privateKey: string;
  publicKey: string;
}

/** Words that stand for what is secret, where a context is shown and not used. */
const PLACEHOLDER = 'PLACEHOLDER';

/** The context without its secrets. */
export function redactContext(context: GuestContext): GuestContext {
  const { extras } = context;
  return {
    ...context,
    hostKey: `${PLACEHOLDER} for the private host key\n`,
    authorizedKey: `ssh-ed25519 ${PLACEHOLDER}`,
    ...(extras?.peers === undefined
      ? {}
      : {
          extras: {
            ...extras,
            peers: { ...extras.peers, privateKey: PLACEHOLDER, publicKey: `ssh-ed25519 ${PLACEHOLDER}` },
          },
        }),
  };
}

/** Linux knows no longer names of machines. */
const MAX_HOST_NAME = 64;

/** What the guest's kernel is told as its name: without the domain where both would be too long. */
export function kernelHostname(hostname: string): string {
  return hostname.length <= MAX_HOST_NAME ? hostname : (hostname.split('.')[0] ?? hostname);
}

/** A path as /etc/fstab and /proc/mounts have it: one word. */
function inMountTable(path: string): string {
  return path.replaceAll('\\', '\\134').replaceAll(' ', '\\040');
}

/** Who configures the guest's network: our service, or the image by itself. */
function networkMode(context: GuestContext, kind: Contextualisation): string {
  if (kind === 'cloud-init') return 'none';
  // CernVM asks DHCP before anything of ours runs.
  if (kind === 'cernvm' && context.network.addressing === 'dhcp') return 'none';
  return context.network.addressing;
}

/** The account by which the node comes into a guest: the job's user under a second name, with a shell and a
 * home that are not the user's. What a user's own shell does when an SSH server starts it is up to that user.
 * @param user the job's, which must not be the same */
export function loginOf(user: string): string {
  return user === 'vmbatch-job' ? 'vmbatch-login' : 'vmbatch-job';
}

/** context.sh: sourced by a root shell in the guest, so every value is one quoted word. Source of the file's
 * name and of how it is found: the start-up scripts of CernVM (OpenNebula's convention). */
export function renderContextScript(
  context: GuestContext,
  kind: Contextualisation = 'prepared',
  userData?: string,
): string {
  const { user, network } = context;
  const values: [string, string | number][] = [
    ['VMBATCH_JOB_ID', context.jobId],
    ['VMBATCH_NONCE', context.nonce],
    ['VMBATCH_HOSTNAME', context.hostname],
    ['VMBATCH_TIME', context.time ?? ''],
    ['VMBATCH_USER', user.name],
    ['VMBATCH_UID', user.uid],
    ['VMBATCH_GROUP', user.group],
    ['VMBATCH_GID', user.gid],
    ['VMBATCH_GROUPS', user.groups.map((group) => `${group.name}:${group.gid}`).join(' ')],
    ['VMBATCH_HOME', user.home],
    ['VMBATCH_SHELL', user.shell],
    ['VMBATCH_LOGIN', loginOf(user.name)],
    ['VMBATCH_NET', networkMode(context, kind)],
    ['VMBATCH_MAC', network.mac ?? ''],
  ];
  if (network.addressing === 'static')
    values.push(
      ['VMBATCH_ADDRESS', `${network.address}/${network.prefixLength}`],
      ['VMBATCH_GATEWAY', network.gateway ?? ''],
      [
        'VMBATCH_ADDRESS6',
        network.address6 === undefined ? '' : `${network.address6.address}/${network.address6.prefixLength}`,
      ],
      ['VMBATCH_GATEWAY6', network.address6?.gateway ?? ''],
    );
  values.push(
    ['VMBATCH_DNS', (network.dns ?? []).join(' ')],
    ['VMBATCH_SEARCH', network.domain ?? ''],
    [
      'VMBATCH_MOUNTS',
      context.mounts
        .map(({ type, source, target, options }) =>
          [type, inMountTable(source), inMountTable(target), options.join(',')].join(' '),
        )
        .join('\n'),
    ],
    ['VMBATCH_REPOSITORIES', context.repositories.join(',')],
    ['VMBATCH_READY_FILE', context.readyFile],
    ['VMBATCH_HOST_KEY', Buffer.from(context.hostKey).toString('base64')],
    ['VMBATCH_AUTHORIZED_KEY', context.authorizedKey],
    ...(context.extras === undefined ? [] : extraValues(context.extras)),
  );
  // One line, and not in need of quotes: readers pass it through the shell unquoted.
  const encoded = userData === undefined ? undefined : Buffer.from(userData).toString('base64');
  const staticNetwork = userData === undefined ? [] : openNebulaNetwork(network);
  return renderTemplate('context.sh', { values, userData: encoded, staticNetwork }, 'sh');
}

/** µCernVM's boot loader needs the network to get its operating system: it takes a static address from
 * OpenNebula's variables, and asks DHCP only where there is no ETH0_MAC. */
function openNebulaNetwork(network: GuestNetwork): [string, string][] {
  const { mac } = network;
  if (network.addressing === 'dhcp' || mac === undefined) return [];
  const { address6 } = network;
  return [
    ['ETH0_MAC', mac],
    ['ETH0_IP', network.address],
    ['ETH0_MASK', netmask(network.prefixLength)],
    ['ETH0_GATEWAY', network.gateway ?? ''],
    ['ETH0_DNS', (network.dns ?? []).join(' ')],
    ['ETH0_SEARCH_DOMAIN', network.domain ?? ''],
    ...(address6 === undefined
      ? []
      : ([
          ['ETH0_IP6', address6.address],
          ['ETH0_GATEWAY6', address6.gateway ?? ''],
          // Or the IPv6 address takes the place of the IPv4 one.
          ['ETH0_CONTEXT_FORCE_IPV4', 'yes'],
        ] as [string, string][])),
  ];
}

function netmask(prefixLength: number): string {
  return [0, 8, 16, 24]
    .map((before) => 256 - 2 ** (8 - Math.min(8, Math.max(0, prefixLength - before))))
    .join('.');
}

function extraValues(extras: GuestExtras): [string, string | number][] {
  const features = (values: Record<string, string | number>) =>
    Object.entries(values)
      .map(([key, value]) => `${key}=${value}`)
      .join(' ');
  const { peers } = extras;
  return [
    ['VMBATCH_READY', extras.ready],
    ['VMBATCH_DISKS', extras.disks.join(' ')],
    ['VMBATCH_SCRATCH', extras.scratch ?? ''],
    ['VMBATCH_CACHE', extras.cache?.path ?? ''],
    ['VMBATCH_CACHE_QUOTA', extras.cache?.quotaMebibytes ?? ''],
    ['VMBATCH_TIMEZONE', extras.timeZone ?? ''],
    ['VMBATCH_NTP', extras.ntp.join(' ')],
    ['VMBATCH_CVMFS_PROXY', extras.cvmfs.proxy ?? ''],
    ['VMBATCH_CVMFS_SERVER', extras.cvmfs.server ?? ''],
    ['VMBATCH_BEFORE_JOB', extras.beforeJob ? 1 : ''],
    ['VMBATCH_AFTER_JOB', extras.afterJob ? 1 : ''],
    ['VMBATCH_MACHINE_FEATURES', features(extras.machineFeatures)],
    ['VMBATCH_JOB_FEATURES', features(extras.jobFeatures)],
    ...(peers === undefined
      ? []
      : ([
          ['VMBATCH_PEER_RANK', peers.rank],
          ['VMBATCH_PEER_COUNT', peers.count],
          ['VMBATCH_PEERS_DIRECTORY', peers.directory],
          ['VMBATCH_PEER_KEY', Buffer.from(peers.privateKey).toString('base64')],
          ['VMBATCH_PEER_PUBLIC_KEY', peers.publicKey],
        ] as [string, string | number][])),
  ];
}
