// A network of the site's own for guests that are not on QEMU's user network: a network namespace with a
// bridge, in which the batch system, libvirt and the NFS server run. Nothing of it is seen outside.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VmbatchError } from '../../src/util/errors.ts';
import { describeRun } from '../../src/util/processes/run.ts';
import { runSheltered } from './sheltered.ts';
import type { Undo } from './undo.ts';

/** `static`: a bridge and a pool of addresses. `dhcp`: a network of libvirt's, with its DHCP server. */
export type GuestNetworkKind = 'static' | 'dhcp';

export interface GuestNetwork {
  kind: GuestNetworkKind;
  /** Name of the namespace. */
  namespace: string;
  /** The node's address on the network: where guests find the share. */
  host: string;
  /** The node file's `network`. */
  config: Record<string, unknown>;
}

/** Documentation's own addresses (RFC 5737 and 3849): nobody's. */
const PREFIX = '192.0.2.';
const BRIDGE = 'vmbr0';
const LIBVIRT_NETWORK = 'guests';

/** Makes the namespace, and the bridge in it for `static`.
 * @param locks where addresses are locked, by all nodes */
export async function makeGuestNetwork(
  kind: GuestNetworkKind,
  name: string,
  locks: string,
  undo: Undo,
): Promise<GuestNetwork> {
  undo.add(`remove the network namespace ${name}`, async () => void (await ip('netns', 'del', name)));
  await ip('netns', 'add', name);
  const inside = (...words: string[]) => ip('-n', name, ...words);
  await inside('link', 'set', 'lo', 'up');
  const host = `${PREFIX}1`;
  const common = { lock_directory: locks };
  if (kind === 'dhcp')
    return { kind, namespace: name, host, config: { ...common, type: 'libvirt', name: LIBVIRT_NETWORK } };
  await inside('link', 'add', BRIDGE, 'type', 'bridge');
  await inside('addr', 'add', `${host}/24`, 'dev', BRIDGE);
  await inside('-6', 'addr', 'add', '2001:db8::1/64', 'dev', BRIDGE, 'nodad');
  await inside('link', 'set', BRIDGE, 'up');
  const pool = [10, 11].map((last) => ({
    address: `${PREFIX}${last}`,
    address6: `2001:db8::${last}`,
    hostname: `vm${last}.example.org`,
  }));
  const addresses = { prefix_length: 24, gateway: host, gateway6: '2001:db8::1', pool };
  return {
    kind,
    namespace: name,
    host,
    config: { ...common, type: 'bridge', name: BRIDGE, addressing: 'static', ...addresses },
  };
}

/** For `dhcp`, once libvirt runs in the namespace. */
export async function startLibvirtNetwork(uri: string, directory: string): Promise<void> {
  const file = join(directory, 'network.xml');
  // "open": libvirt adds no rules to a firewall.
  writeFileSync(
    file,
    `<network><name>${LIBVIRT_NETWORK}</name><forward mode='open'/><bridge name='${BRIDGE}' stp='off' delay='0'/>
<ip address='${PREFIX}1' netmask='255.255.255.0'><dhcp><range start='${PREFIX}100' end='${PREFIX}120'/></dhcp></ip></network>`,
  );
  await must('virsh', ['-c', uri, 'net-create', file]);
}

/** Its DHCP server would outlive libvirt. */
export async function stopLibvirtNetwork(uri: string): Promise<undefined> {
  await must('virsh', ['-c', uri, 'net-destroy', LIBVIRT_NETWORK]);
  return undefined;
}

function ip(...words: string[]): Promise<void> {
  return must('ip', words);
}

async function must(file: string, args: readonly string[]): Promise<void> {
  const result = await runSheltered(file, args, { timeoutMs: 30_000 });
  if (result.exitCode !== 0)
    throw new VmbatchError({ fault: 'node', code: 'site-setup', message: describeRun(result) });
}
