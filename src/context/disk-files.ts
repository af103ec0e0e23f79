// What is on the context disk of a guest: one set of files for every reader.
import type { Contextualisation, KeyType } from '../node-file/config.ts';
import { renderTemplate } from '../util/templates/template.ts';
import { type GuestContext, kernelHostname, renderContextScript } from './guest-context.ts';
import type { IsoFile } from './iso9660/tree.ts';
import { networkConfig } from './network-config.ts';
import { buildUserData, type UserDataRequest } from './user-data.ts';

/** What the node and its admin add to what is known of the job. */
export interface ContextSite {
  kind: Contextualisation;
  /** What the SSH server of the image knows; absent: ed25519. */
  keyType?: KeyType;
  cvmfs: UserDataRequest['cvmfs'];
  siteParts: UserDataRequest['siteParts'];
  /** The site's scripts, where it has them. */
  scripts: {
    prolog?: Uint8Array;
    epilog?: Uint8Array;
    beforeJob?: Uint8Array;
    afterJob?: Uint8Array;
  };
  /** Our guest service, for images that do not have it. */
  service: { guest: Uint8Array; udhcpcScript: Uint8Array };
}

/** The user-data of a guest.
 * @throws VmbatchError as {@link buildUserData} */
export function userDataOf(context: GuestContext, site: ContextSite): string {
  return buildUserData({
    hostname: kernelHostname(context.hostname),
    timeZone: context.extras?.timeZone,
    keyType: site.keyType ?? 'ed25519',
    nonce: context.nonce,
    repositories: context.repositories,
    cvmfs: site.cvmfs,
    siteParts: site.siteParts,
  });
}

/** All files of the disk, for {@link buildIso} under the label `cidata`. Pure.
 * @throws VmbatchError as {@link buildUserData} */
export function contextFiles(context: GuestContext, site: ContextSite): IsoFile[] {
  const { scripts, service, kind } = site;
  const userData = userDataOf(context, site);
  const script = renderContextScript(context, kind, userData);
  const instanceId = `${context.jobId}-${context.nonce}`;
  const json = (value: unknown) => Buffer.from(`${JSON.stringify(value, undefined, 1)}\n`);
  const text = Buffer.from(userData);
  const hostname = kernelHostname(context.hostname);
  const files: [string, string | Uint8Array | undefined, number?][] = [
    ['context.sh', script],
    ['prolog.sh', renderTemplate('prolog.sh', { hasSiteScript: scripts.prolog !== undefined }, 'sh')],
    ['epilog.sh', renderTemplate('epilog.sh', { hasSiteScript: scripts.epilog !== undefined }, 'sh')],
    // NoCloud takes JSON for the YAML that it is.
    ['user-data', text],
    ['meta-data', json({ 'instance-id': instanceId, 'local-hostname': hostname })],
    ['network-config', json(networkConfig(context.network))],
    ['ec2/latest/user-data', text],
    ['ec2/latest/meta-data.json', json({ 'instance-id': instanceId, 'local-hostname': hostname, hostname })],
    ['openstack/latest/user_data', text],
    ['openstack/latest/meta_data.json', json({ uuid: instanceId, hostname, name: hostname })],
    ['vmbatch/guest', service.guest, 0o755],
    ['vmbatch/udhcpc-script', service.udhcpcScript, 0o755],
    ['vmbatch/site-prolog', scripts.prolog, 0o755],
    ['vmbatch/site-epilog', scripts.epilog, 0o755],
    ['vmbatch/before-job', scripts.beforeJob, 0o755],
    ['vmbatch/after-job', scripts.afterJob, 0o755],
  ];
  return files.flatMap(([path, data, mode = 0o600]) =>
    data === undefined ? [] : [{ path, data: typeof data === 'string' ? Buffer.from(data) : data, mode }],
  );
}
