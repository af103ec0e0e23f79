// What a batch script would get on this node, without starting anything or being root.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { checkJobId, wallSecondsOf } from '../../batch/torque/mom/hook-arguments.ts';
import { nodeParts, nodeRequest, requestedSlots } from '../../batch/torque/node-request.ts';
import { requestedMemory, type Slots } from '../../batch/torque/requested-memory.ts';
import { contextFiles } from '../../context/disk-files.ts';
import { refuseRoot } from '../../context/guest-account.ts';
import { redactContext } from '../../context/guest-context.ts';
import type { IsoFile } from '../../context/iso9660.ts';
import { generateKeyPair, type KeyPair } from '../../context/keys.ts';
import { cacheDiskPath } from '../../guest/disk/cache.ts';
import { parseGuestRequest, type ResolvedGuestRequest, resolveGuestRequest } from '../../guest/grant.ts';
import { macAddress } from '../../guest/network/mac.ts';
import { shareName } from '../../guest/peers.ts';
import { chooseDomainType } from '../../hypervisor/domain-type.ts';
import { renderDomainXml } from '../../hypervisor/domain-xml.ts';
import { demoConfig } from '../../node-file/demo.ts';
import { loadNodeConfig, type NodeConfig } from '../../node-file/read.ts';
import { type Account, accountOfUid, findAccount } from '../../util/accounts/account.ts';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import { randomToken } from '../../util/random-token.ts';
import { siteDomainTemplate } from '../life/steps/domain.ts';
import { type GuestPlan, planGuest, siteOf } from '../plan/plan.ts';
import { loadSiteFiles } from '../plan/site-files.ts';
import { jobPaths } from '../record.ts';

export interface PreviewOptions {
  /** The batch script. */
  script: string;
  /** Instead of a script's: a job that asks for nothing but this image, and may use it. */
  image?: string;
  configFile: string;
  /** Undefined: what the script's `#PBS -q` says, else the node's first queue. */
  queue: string | undefined;
  /** Undefined: the script's owner. */
  user: string | undefined;
  jobId: string;
  /** Whether real keys are made and shown; otherwise words stand in their places, and equal input gives equal
   * output. */
  keys: boolean;
  /** Told what was assumed, a line each. */
  say: (line: string) => void;
}

export interface Preview {
  config: NodeConfig;
  plan: GuestPlan;
  request: ResolvedGuestRequest;
  /** Of the context disk. */
  files: IsoFile[];
  domainXml: string;
}

/** A forwarded port, where it is not leased. */
const SAMPLE_PORT = 22_000;
/** For a script that belongs to root, as whom no job runs. */
const SAMPLE_ACCOUNT: Account = {
  ...{
    name: 'alice',
    uid: 5001,
    gid: 5001,
    group: 'alice',
    groups: [],
    home: '/home/alice',
    shell: '/bin/bash',
  },
};

/** @throws VmbatchError as the prologue of such a job would */
export async function previewGuest(options: PreviewOptions): Promise<Preview> {
  const { say } = options;
  const jobId = checkJobId(options.jobId);
  const config = readConfig(options);
  const chosen = options.image === undefined ? undefined : config.images.get(options.image);
  const script = chosen === undefined ? readScript(options.script) : `#VMBATCH image=${chosen.name}\n`;
  const header = pbsHeader(script);
  const account = chosen === undefined ? await chooseAccount(options) : SAMPLE_ACCOUNT;
  const allowed = chosen?.queues?.find((name) => config.queues.includes(name));
  const queue = options.queue ?? header.queue ?? allowed ?? config.queues[0] ?? '';
  if (!config.queues.includes(queue))
    say(
      `queue ${queue} is not served by this node (${config.queues.join(', ')}): its jobs would get no guest`,
    );
  const request = resolveGuestRequest(parseGuestRequest(script, options.script), config, {
    ppn: header.slots.here,
    memory: requestedMemory(header.resources, header.slots),
    queue,
    groups: [account.group, ...account.groups.map(({ name }) => name), ...(chosen?.groups ?? [])],
  });
  refuseRoot(account);
  const paths = jobPaths(config.state, jobId);
  const entry = config.network.static?.pool[0];
  const nonce = options.keys ? randomToken(12) : '0'.repeat(24);
  const type = chooseDomainType(config.hypervisor.type, config.hypervisor.uri);
  const placeholder: KeyPair = { privateKey: '', publicKey: '' };
  const plan = planGuest({
    config,
    jobId,
    queue,
    nonce,
    account,
    request,
    wallSeconds: header.wallSeconds,
    leases: { port: SAMPLE_PORT, mac: entry?.mac ?? macAddress(jobId), entry },
    files: {
      overlay: paths.overlay,
      scratch: request.scratchBytes > 0 ? paths.scratch : undefined,
      cache:
        config.disk.cacheBytes === undefined
          ? undefined
          : cacheDiskPath(config.state, { image: request.imageName, account: account.uid, slot: 0 }),
      contextIso: paths.contextIso,
      console: paths.console,
    },
    readyFile: `${config.readyDirectory}/${shareName(jobId)}.${nonce}`,
    jobKey: options.keys ? generateKeyPair(request.image.sshKeys) : placeholder,
    hostKey: options.keys ? generateKeyPair(request.image.sshKeys) : placeholder,
    facts: {
      type,
      // As on a node with libvirt's own filters installed; asking it is not for everybody to do.
      filters: { ipv4: type !== 'xen', ipv6: type !== 'xen' },
      cpus: undefined,
      numaNodes: undefined,
    },
    // A guest that is really started from this has a clock of its own.
    time: options.keys ? Math.floor(Date.now() / 1000) : undefined,
  });
  const shown = options.keys ? plan : { ...plan, context: redactContext(plan.context) };
  const { imageName, image, vcpus, memoryBytes } = request;
  const loaded = await loadSiteFiles(config, shown, { queue, image: imageName, vcpus, memoryBytes });
  return {
    config,
    plan: shown,
    request,
    files: contextFiles(shown.context, siteOf(config, image, loaded)),
    domainXml: renderDomainXml(plan.domain, await siteDomainTemplate(config, plan.domain.type)),
  };
}

function readConfig({ configFile, say }: PreviewOptions): NodeConfig {
  if (existsSync(configFile)) return loadNodeConfig(configFile);
  say(
    `there is no node file ${configFile}: this is for the built-in demo configuration (queue vmalice, image demo)`,
  );
  return demoConfig();
}

function readScript(path: string): string {
  try {
    return readFileSync(resolve(path), 'latin1');
  } catch (error) {
    throw new VmbatchError({
      fault: 'job',
      code: 'script-absent',
      message: `the batch script ${path} cannot be read (${errnoOf(error)})`,
      cause: error,
    });
  }
}

/** What of the script's `#PBS` lines matters to a guest: queue, slots and the wall-clock limit. */
export function pbsHeader(script: string): {
  queue: string | undefined;
  slots: Slots;
  resources: string;
  wallSeconds: number | undefined;
} {
  const options = [...script.slice(0, 65_536).matchAll(/^#PBS\s+(.*)$/gm)]
    .map(([, text]) => text ?? '')
    .join(' ');
  const resources = [...options.matchAll(/(?:^|\s)-l\s*(\S+)/g)].map(([, list]) => list ?? '').join(',');
  return {
    queue: /(?:^|\s)-q\s*([A-Za-z0-9._-]+)/.exec(options)?.[1],
    slots: slotsAsked(resources),
    resources,
    wallSeconds: wallSecondsOf(resources),
  };
}

/** Slots on the first node of the request, and on all. TORQUE puts the slots of `procs=4` where they are
 * free: here they are taken to be on one node. */
function slotsAsked(resources: string): Slots {
  const { nodes, procs } = nodeRequest(resources);
  if (nodes === undefined && procs !== undefined) return { here: procs, all: procs };
  const [first] = nodeParts(nodes ?? '1');
  return { here: first?.ppn ?? 1, all: requestedSlots(nodes) };
}

async function chooseAccount({ user, script, say }: PreviewOptions): Promise<Account> {
  if (user !== undefined) return findAccount(user);
  const { uid } = statSync(resolve(script));
  const owner = uid === 0 ? undefined : await accountOfUid(uid);
  if (owner !== undefined) return owner;
  say(`no job runs as root, to whom the script belongs: this is for an account alice (--user takes another)`);
  return SAMPLE_ACCOUNT;
}
