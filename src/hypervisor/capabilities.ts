// What libvirt can do on this node, asked once and remembered: asking takes longer than all else that a
// prologue does before a guest starts. What is remembered holds until the node is booted or libvirt, QEMU or
// the connection is another.
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { VmbatchError } from '../util/errors.ts';
import { writeFileAtomic } from '../util/files/files.ts';
import type { Run } from '../util/processes/run.ts';
import { formatSize } from '../util/units.ts';
import type { DomainType } from './port.ts';
import { openVirsh } from './virsh.ts';

const CAPABILITIES = z.object({
  key: z.string(),
  /** The program that runs guests. */
  emulator: z.string(),
  cpuModes: z.array(z.string()),
  /** File systems that can be passed into guests by virtiofs. */
  virtiofs: z.boolean(),
  /** Network filters that the connection knows. */
  filters: z.array(z.string()),
});
export type HostCapabilities = Omit<z.infer<typeof CAPABILITIES>, 'key'>;

export interface Connection {
  uri: string;
  type: DomainType;
  machine: string | undefined;
  timeoutMs: number;
  run: Run;
}

/** What the node file may ask of libvirt. */
export interface Demands {
  hypervisor: { cpu: string | undefined; hugepageBytes: number | undefined; type: string };
  share: { type: string };
  mounts: readonly { type: string }[];
}

/** The capabilities of a connection; undefined where libvirt does not tell (a start will then show what it
 * can do).
 * @param state where they are remembered */
export async function cachedCapabilities(
  connection: Connection,
  state: string,
): Promise<HostCapabilities | undefined> {
  const path = join(state, 'capabilities.json');
  const remembered = readRemembered(path);
  if (remembered !== undefined && remembered.key === keyOf(connection, remembered.emulator))
    return remembered;
  const asked = await askCapabilities(connection);
  if (asked !== undefined)
    writeFileAtomic(path, JSON.stringify({ key: keyOf(connection, asked.emulator), ...asked }), 0o600);
  return asked;
}

function readRemembered(path: string): z.infer<typeof CAPABILITIES> | undefined {
  try {
    return CAPABILITIES.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return undefined;
  }
}

/** Everything on which the answer depends. */
function keyOf({ uri, type, machine }: Connection, emulator: string): string {
  const programs = [emulator, '/usr/sbin/libvirtd', '/usr/sbin/virtqemud', '/usr/bin/virsh'].map((path) => {
    const stats = statSync(path, { throwIfNoEntry: false });
    return stats === undefined ? 'absent' : `${stats.size} ${stats.mtimeMs}`;
  });
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return [bootId, uri, type, machine ?? 'default', ...programs].join('\n');
}

async function askCapabilities(connection: Connection): Promise<HostCapabilities | undefined> {
  const { uri, type, machine, timeoutMs, run } = connection;
  const words = [
    'domcapabilities',
    '--virttype',
    type,
    ...(machine === undefined ? [] : ['--machine', machine]),
  ];
  const result = await run('virsh', ['--quiet', '--connect', uri, ...words], {
    timeoutMs,
    env: { ...process.env, LC_ALL: 'C.UTF-8' },
  });
  if (result.exitCode !== 0) return undefined;
  const filters = await openVirsh({ uri, timeoutMs, run }).filters();
  return { ...parseDomainCapabilities(result.stdout), filters };
}

/** `virsh domcapabilities`. Only libvirt writes it, and only a few words of it are looked for. */
export function parseDomainCapabilities(xml: string): Omit<HostCapabilities, 'filters'> {
  const section = (name: string) => new RegExp(`<${name}[ >][\\s\\S]*?</${name}>`).exec(xml)?.[0] ?? '';
  const modes = [...section('cpu').matchAll(/<mode name='([a-z-]+)' supported='yes'/g)].map(
    ([, mode]) => mode ?? '',
  );
  const driverTypes = /<enum name='driverType'>([\s\S]*?)<\/enum>/.exec(section('filesystem'))?.[1] ?? '';
  return {
    emulator: /<path>([^<]+)<\/path>/.exec(xml)?.[1] ?? '',
    cpuModes: modes,
    virtiofs: driverTypes.includes('<value>virtiofs</value>'),
  };
}

const CPU_MODES: readonly string[] = ['host-passthrough', 'host-model', 'maximum'];

/** Refuses what the node file asks for and the node cannot do, before a guest is started in vain.
 * @param root of the file system; for tests
 * @throws VmbatchError `node` (`capability-missing`) naming key, value and what there is */
export function checkDemands(demands: Demands, capabilities: HostCapabilities | undefined, root = '/'): void {
  const { cpu, hugepageBytes } = demands.hypervisor;
  const refuse = (message: string, hint: string) =>
    new VmbatchError({ fault: 'node', code: 'capability-missing', message, hint });
  if (hugepageBytes !== undefined) {
    const kibibytes = hugepageBytes / 1024;
    const pool = join(root, `sys/kernel/mm/hugepages/hugepages-${kibibytes}kB`);
    if (statSync(pool, { throwIfNoEntry: false }) === undefined)
      throw refuse(
        `hypervisor.hugepages: this node's kernel has no huge pages of ${formatSize(hugepageBytes)}`,
        `ls ${join(root, 'sys/kernel/mm/hugepages')} shows the sizes that it has`,
      );
  }
  if (capabilities === undefined) return;
  const { cpuModes, virtiofs } = capabilities;
  if (cpu !== undefined && CPU_MODES.includes(cpu) && cpuModes.length > 0 && !cpuModes.includes(cpu))
    throw refuse(
      `hypervisor.cpu: found ${cpu}, which libvirt does not offer here; it offers ${cpuModes.join(', ')}`,
      'take one of these, or leave the key out',
    );
  const wanted = [demands.share, ...demands.mounts].some(({ type }) => type === 'virtiofs');
  if (wanted && !virtiofs)
    throw refuse('share.type: found virtiofs, which libvirt does not offer here', 'is virtiofsd installed?');
}
