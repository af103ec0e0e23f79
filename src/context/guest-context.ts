// What a guest is told about its job, and context.sh, in which it is told.
import { renderTemplate } from '../util/template.ts';

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
  network:
    | { addressing: 'dhcp' }
    | { addressing: 'static'; address: string; prefixLength: number; gateway: string; dns: string[] };
  /** Names of CernVM-FS repositories; may be empty. */
  repositories: string[];
  mounts: { type: string; source: string; target: string; options: string[] }[];
  /** Absolute, on the share. */
  readyFile: string;
  /** The guest's ed25519 host key, a private key file in OpenSSH's format. */
  hostKey: string;
  /** One line of authorized_keys: the job's key. */
  authorizedKey: string;
  time: number;
}

/** context.sh: sourced by a root shell in the guest, so every value is one quoted word. Source of the file's
 * name and of how it is found: the start-up scripts of CernVM (OpenNebula's convention). */
export function renderContextScript(context: GuestContext): string {
  const { user, network } = context;
  const values: [string, string | number][] = [
    ['VMBATCH_JOB_ID', context.jobId],
    ['VMBATCH_NONCE', context.nonce],
    ['VMBATCH_HOSTNAME', context.hostname],
    ['VMBATCH_TIME', context.time],
    ['VMBATCH_USER', user.name],
    ['VMBATCH_UID', user.uid],
    ['VMBATCH_GROUP', user.group],
    ['VMBATCH_GID', user.gid],
    ['VMBATCH_GROUPS', user.groups.map((group) => `${group.name}:${group.gid}`).join(' ')],
    ['VMBATCH_HOME', user.home],
    ['VMBATCH_SHELL', user.shell],
    ['VMBATCH_NET', network.addressing],
  ];
  if (network.addressing === 'static')
    values.push(
      ['VMBATCH_ADDRESS', `${network.address}/${network.prefixLength}`],
      ['VMBATCH_GATEWAY', network.gateway],
      ['VMBATCH_DNS', network.dns.join(' ')],
    );
  values.push(
    [
      'VMBATCH_MOUNTS',
      context.mounts
        .map((mount) => [mount.type, mount.source, mount.target, mount.options.join(',')].join(' '))
        .join('\n'),
    ],
    ['VMBATCH_REPOSITORIES', context.repositories.join(',')],
    ['VMBATCH_READY_FILE', context.readyFile],
    ['VMBATCH_HOST_KEY', Buffer.from(context.hostKey).toString('base64')],
    ['VMBATCH_AUTHORIZED_KEY', context.authorizedKey],
  );
  return renderTemplate('context.sh', { values }, 'sh');
}
