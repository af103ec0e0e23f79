// Whether the domain that a site's own template makes is the one that was asked for. libvirt takes any: a
// domain of another name would never be ended, and one without the job's disks would never become ready.
import { VmbatchError } from '../util/errors.ts';
import type { DomainDescription } from './domain-xml.ts';
import { parseXml, type XmlNode, XmlProblem } from './xml-tree.ts';

/** @param template for messages
 * @param xml what it made of `domain`
 * @param another what it makes of a guest of another job
 * @throws VmbatchError `node` (`template-invalid`) with the first thing that differs */
export function checkSiteDomain(
  template: string,
  xml: string,
  domain: DomainDescription,
  another: string,
): void {
  const problem = problemOf(xml, domain, another);
  if (problem === undefined) return;
  throw new VmbatchError({
    fault: 'node',
    code: 'template-invalid',
    message: `template ${template}: ${problem}`,
    hint: 'correct the template; "vmbatch domain show" renders it for a batch script, and templates/domain.xml.ejs is ours',
  });
}

function problemOf(xml: string, domain: DomainDescription, another: string): string | undefined {
  if (xml.trim() === '') return 'its result is empty';
  let root: XmlNode;
  let other: XmlNode;
  try {
    root = parseXml(xml);
    other = parseXml(another);
  } catch (error) {
    if (error instanceof XmlProblem) return error.message;
    throw error;
  }
  if (root.name !== 'domain') return `its result is <${root.name}>, must be <domain>`;
  const devices = all(root, 'devices').flatMap(({ children }) => children);
  return (
    differs('the type of the domain', root.attributes.get('type'), domain.type) ??
    nameProblem(root, domain.name) ??
    sizeProblem(root, domain) ??
    uuidProblem(root, other) ??
    diskProblem(devices, domain) ??
    sharedDiskProblem(root, other, domain) ??
    networkProblem(xml, devices, domain) ??
    channelProblem(devices, domain)
  );
}

function nameProblem(root: XmlNode, wanted: string): string | undefined {
  const names = all(root, 'name');
  if (names.length > 1) return 'its result has several <name>';
  return differs('<name>', names[0]?.text, wanted);
}

function sizeProblem(root: XmlNode, { vcpus, memoryBytes }: DomainDescription): string | undefined {
  const memory = all(root, 'memory')[0];
  const bytes = memory === undefined ? undefined : bytesOf(memory);
  if (bytes === undefined || Math.abs(bytes - memoryBytes) >= 1024 ** 2)
    return `<memory> is ${bytes === undefined ? 'missing or no size' : `${bytes} bytes`}, must be ${memoryBytes} bytes`;
  return differs('<vcpu>', all(root, 'vcpu')[0]?.text.trim(), String(vcpus));
}

/** As libvirt reads it: KiB without a unit. */
function bytesOf({ text, attributes }: XmlNode): number | undefined {
  const unit = attributes.get('unit') ?? 'KiB';
  const powers: Readonly<Record<string, number>> = {
    ...{ b: 1, bytes: 1, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 },
    ...{ K: 1024, k: 1024, KiB: 1024, M: 1024 ** 2, MiB: 1024 ** 2 },
    ...{ G: 1024 ** 3, GiB: 1024 ** 3, T: 1024 ** 4, TiB: 1024 ** 4 },
  };
  const factor = powers[unit];
  return factor === undefined || !/^\s*\d{1,15}\s*$/.test(text) ? undefined : Number(text) * factor;
}

function uuidProblem(root: XmlNode, other: XmlNode): string | undefined {
  const [uuid, again] = [root, other].map((domain) => all(domain, 'uuid')[0]?.text.trim());
  if (uuid === undefined || uuid !== again) return undefined;
  return `<uuid> is ${uuid} for each guest, so that no two can run; leave it out, and libvirt makes one`;
}

function diskProblem(
  devices: readonly XmlNode[],
  { disks, contextIso }: DomainDescription,
): string | undefined {
  const wanted = [
    ...disks.map(({ file, format, role }) => ({ file, format: format as string, what: `${role} disk` })),
    { file: contextIso, format: 'raw', what: 'context disk' },
  ];
  for (const { file, format, what } of wanted) {
    const found = devices.filter((device) => device.name === 'disk' && fileOf(device) === file);
    if (found.length !== 1)
      return `its result has the ${what} ${file} ${found.length === 0 ? 'not at all' : 'several times'}`;
    const type = found.flatMap((disk) => all(disk, 'driver'))[0]?.attributes.get('type');
    // Without one, libvirt takes it for raw.
    if ((type ?? 'raw') !== format)
      return `the ${what} has the driver type ${type ?? 'raw'}, must be ${format}`;
  }
  return undefined;
}

/** A disk that is the same for two guests must be one that they only read. */
function sharedDiskProblem(root: XmlNode, other: XmlNode, { disks }: DomainDescription): string | undefined {
  const written = (domain: XmlNode) =>
    all(domain, 'devices')
      .flatMap(({ children }) => children)
      .filter(
        ({ name, children }) =>
          name === 'disk' && !children.some((child) => /^(readonly|shareable)$/.test(child.name)),
      )
      .flatMap((disk) => fileOf(disk) ?? []);
  const others = written(other);
  const shared = written(root).find(
    (file) => others.includes(file) && !disks.some((disk) => disk.file === file),
  );
  return shared === undefined
    ? undefined
    : `each guest writes on the same disk ${shared}; it must be <readonly/>, or have the name of the guest in its own`;
}

function networkProblem(
  xml: string,
  devices: readonly XmlNode[],
  { network }: DomainDescription,
): string | undefined {
  if (network.type === 'user')
    return new RegExp(`(^|\\D)${network.forwardedPort}(\\D|$)`).test(xml)
      ? undefined
      : `its result does not forward port ${network.forwardedPort} (it.network.forwardedPort) to the guest's SSH server`;
  const macs = devices
    .filter(({ name }) => name === 'interface')
    .map((device) => all(device, 'mac')[0]?.attributes.get('address')?.toLowerCase());
  return macs.includes(network.mac)
    ? undefined
    : `its result has no <interface> with the MAC address ${network.mac} (it.network.mac)`;
}

function channelProblem(
  devices: readonly XmlNode[],
  { filesystems, agent }: DomainDescription,
): string | undefined {
  const targets = (device: string, attribute: string) =>
    devices
      .filter(({ name }) => name === device)
      .flatMap((found) => all(found, 'target'))
      .map(({ attributes }) => attributes.get(attribute));
  const tags = targets('filesystem', 'dir');
  const missing = filesystems.find(({ tag }) => !tags.includes(tag));
  if (missing !== undefined)
    return `its result has no <filesystem> with the target ${missing.tag}, by which guests mount ${missing.directory}`;
  const hasAgent = !agent || targets('channel', 'name').includes('org.qemu.guest_agent.0');
  return hasAgent
    ? undefined
    : 'its result has no <channel> org.qemu.guest_agent.0, and ready_channel is agent';
}

const fileOf = (disk: XmlNode) => {
  const source = all(disk, 'source')[0]?.attributes;
  return source?.get('file') ?? source?.get('dev');
};
const all = ({ children }: XmlNode, name: string) => children.filter((child) => child.name === name);

function differs(what: string, found: string | undefined, wanted: string): string | undefined {
  if (found === wanted) return undefined;
  return `${what} is ${found === undefined ? 'missing' : JSON.stringify(found)}, must be ${JSON.stringify(wanted)}`;
}
