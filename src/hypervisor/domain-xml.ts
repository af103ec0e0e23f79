// The libvirt domain of a job's guest, as XML text.
import type { ImageBoot } from '../node-file/config.ts';
import { VmbatchError } from '../util/errors.ts';
import type { SiteTemplate } from '../util/templates/site-template.ts';
import { renderTemplate } from '../util/templates/template.ts';
import { listOfCpus } from './cpus.ts';
import type { DomainType } from './port.ts';
import { checkSiteDomain } from './site-domain.ts';

/** `root` boots, `scratch` is the job's, `cache` outlives it. */
type DiskRole = 'root' | 'scratch' | 'cache';

export interface DomainDisk {
  /** Absolute path on the node. */
  file: string;
  format: 'qcow2' | 'raw';
  role: DiskRole;
}

export type DomainNetwork =
  /** `forwardedPort`: the loopback port of the node that leads to the guest's SSH server. */
  | { type: 'user'; mac: string; forwardedPort: number }
  | {
      type: 'bridge' | 'libvirt';
      /** The bridge, or libvirt's network. */
      name: string;
      mac: string;
      /** libvirt network filter, with the addresses that the guest may use where they are known
       * beforehand. */
      filter: { name: string; address: string | undefined; address6: string | undefined } | undefined;
    };

/** What binds the guest to a part of the node; everything may be undefined. */
interface DomainTuning {
  /** CPUs of the node that the job was given. */
  cpus: readonly number[] | undefined;
  numaNodes: readonly number[] | undefined;
  hugepageBytes: number | undefined;
  cpuShares: number | undefined;
  ioWeight: number | undefined;
  partition: string | undefined;
}

export interface DomainDescription {
  /** `vmbatch-JOBID`: a domain without a record still tells whose it was. */
  name: string;
  type: DomainType;
  /** Undefined: `pc` for kvm and qemu, what goes with `xenMode` for xen. */
  machine: string | undefined;
  /** A mode (`host-passthrough`, `host-model`, `maximum`) or a model's name; undefined: what suits the
   * type. */
  cpu: string | undefined;
  xenMode: 'pv' | 'pvh' | 'hvm';
  vcpus: number;
  memoryBytes: number;
  boot: ImageBoot;
  /** The first is `root`. */
  disks: readonly DomainDisk[];
  contextIso: string;
  consoleLog: string;
  network: DomainNetwork;
  /** Directories of the node that the guest mounts by their tags. */
  filesystems: readonly { type: '9p' | 'virtiofs'; directory: string; tag: string }[];
  /** Whether there is a channel for QEMU's guest agent. */
  agent: boolean;
  tuning: DomainTuning;
}

/** Names of devices: their last letter goes by the role, so that one is the same whatever else there is. */
const LETTERS: Readonly<Record<DiskRole, string>> = { root: 'a', scratch: 'b', cache: 'd' };
const ISO_LETTER = 'c';

/** Pure: the same description gives the same text. Everything is escaped by the template's language.
 * @param own the site's template for this type, in place of ours
 * @throws VmbatchError `node`: `domain-impossible` for what the type cannot have, `template-invalid` where
 * the site's template makes another domain than this */
export function renderDomainXml(domain: DomainDescription, own?: SiteTemplate): string {
  if (own === undefined) return renderTemplate('domain.xml', domainValues(domain), 'xml');
  const xml = own.render(domainValues(domain), 'xml');
  const another = own.render(domainValues(ofAnotherJob(domain)), 'xml');
  checkSiteDomain(own.path, xml, domain, another);
  return xml;
}

/** A guest beside it, for what may not be the same of two. */
function ofAnotherJob(domain: DomainDescription): DomainDescription {
  const name = `${domain.name}-other`;
  const move = (file: string) => file.replaceAll(domain.name.replace(/^vmbatch-/, ''), name);
  return {
    ...domain,
    name,
    disks: domain.disks.map((disk) => ({ ...disk, file: move(disk.file) })),
    contextIso: move(domain.contextIso),
    consoleLog: move(domain.consoleLog),
  };
}

/** What a template sees as `it`: the description, and what follows from it. */
function domainValues(domain: DomainDescription) {
  refuseImpossible(domain);
  const { type, tuning, xenMode, boot, vcpus } = domain;
  const isXen = type === 'xen';
  const isHvm = !isXen || xenMode === 'hvm';
  const machine = domain.machine ?? (isXen ? { pv: 'xenpv', pvh: 'xenpvh', hvm: 'xenfv' }[xenMode] : 'pc');
  const isQ35 = machine.includes('q35');
  const [prefix, bus] = !isXen ? ['vd', 'virtio'] : isHvm ? ['hd', 'ide'] : ['xvd', 'xen'];
  const shared = domain.filesystems.some((filesystem) => filesystem.type === 'virtiofs');
  const hugepageKiB = tuning.hugepageBytes === undefined ? undefined : tuning.hugepageBytes / 1024;
  const cpus = tuning.cpus ?? [];
  return {
    ...domain,
    machine,
    memoryKiB: Math.ceil(domain.memoryBytes / 1024),
    memoryBacking: shared || hugepageKiB !== undefined ? { hugepageKiB, shared } : undefined,
    osType: isHvm ? 'hvm' : xenMode === 'pvh' ? 'xenpvh' : 'linux',
    bootloader: isHvm || boot.type === 'kernel' ? undefined : 'pygrub',
    hasFirmware: isHvm,
    cpu: cpuOf(domain),
    disks: domain.disks.map((disk) => ({ ...disk, device: prefix + LETTERS[disk.role], bus })),
    // The machine type `pc` has the IDE drive that every image has a driver for; q35 has SATA.
    iso: isQ35
      ? { device: 'sda', bus: 'sata' }
      : isXen && !isHvm
        ? { device: `xvd${ISO_LETTER}`, bus }
        : { device: `hd${ISO_LETTER}`, bus: 'ide' },
    pciBus: isQ35 ? 'pcie.0' : 'pci.0',
    // One CPU each where that works out, else all of them for each.
    pins:
      cpus.length === 0
        ? []
        : Array.from({ length: vcpus }, (_, vcpu) =>
            cpus.length === vcpus ? String(cpus[vcpu]) : listOfCpus(cpus),
          ),
    cpuset: listOfCpus(cpus),
    nodeset:
      tuning.numaNodes === undefined || tuning.numaNodes.length === 0
        ? undefined
        : listOfCpus(tuning.numaNodes),
  };
}

const CPU_MODES: readonly string[] = ['host-passthrough', 'host-model', 'maximum'];

function cpuOf({ type, cpu }: DomainDescription): { mode: string; model?: string } | undefined {
  if (cpu !== undefined) return CPU_MODES.includes(cpu) ? { mode: cpu } : { mode: 'custom', model: cpu };
  if (type === 'xen') return undefined;
  return { mode: type === 'kvm' ? 'host-passthrough' : 'maximum' };
}

function refuseImpossible({ type, network, filesystems, agent, name }: DomainDescription): void {
  if (type !== 'xen') return;
  const problem =
    network.type === 'user'
      ? ['network.type user needs QEMU', 'take network.type bridge or libvirt']
      : filesystems.length > 0
        ? [`${filesystems[0]?.type} needs QEMU`, 'take share.type nfs']
        : agent
          ? ["a guest agent's channel needs QEMU", 'take ready_channel file or ssh']
          : undefined;
  if (problem === undefined) return;
  throw new VmbatchError({
    fault: 'node',
    code: 'domain-impossible',
    message: `no Xen domain ${name}: ${problem[0]}`,
    hint: `${problem[1]} in the node file`,
  });
}

/** The guest's names of its disks, for guests that see no serial numbers: `vdb:scratch`. Linux names virtio
 * disks in the order in which it finds them. */
export function guestDiskNames(domain: Pick<DomainDescription, 'type' | 'xenMode' | 'disks'>): string[] {
  // Guests on Xen, also fully virtualised ones, see the para-virtualised disks under Xen's names.
  if (domain.type === 'xen') return domain.disks.map(({ role }) => `xvd${LETTERS[role]}:${role}`);
  return domain.disks.map(({ role }, index) => `vd${String.fromCharCode(97 + index)}:${role}`);
}
