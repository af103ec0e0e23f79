// Which address a guest got by DHCP, when it does not say so itself: asked of libvirt's leases, of the node's
// neighbours, of the guest agent, in this order.
import { readFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AddressSource, GuestAddress, Hypervisor } from '../../hypervisor/port.ts';
import { VmbatchError } from '../../util/errors.ts';

export interface DiscoverOptions {
  hypervisor: Pick<Hypervisor, 'addresses'>;
  domain: string;
  mac: string;
  deadlineMs: number;
  signal: AbortSignal;
  /** The kernel's neighbour table; for tests. */
  arpTable?: string;
  intervalMs?: number;
}

const SOURCES: readonly AddressSource[] = ['lease', 'arp', 'agent'];

/** Asks until somebody knows.
 * @throws VmbatchError `node` (`address-unknown`) at the deadline; the signal's reason when aborted */
export async function discoverAddress(options: DiscoverOptions): Promise<string> {
  const started = performance.now();
  for (;;) {
    options.signal.throwIfAborted();
    for (const source of SOURCES) {
      // The node's own table costs nothing; it stands where libvirt would look for it.
      const found =
        source === 'arp'
          ? neighbours(options.arpTable ?? '/proc/net/arp')
          : await options.hypervisor.addresses(options.domain, source).catch(() => []);
      const address = choose(found, options.mac);
      if (address !== undefined) return address;
    }
    if (performance.now() - started >= options.deadlineMs)
      throw new VmbatchError({
        fault: 'node',
        code: 'address-unknown',
        message: `nobody knows the address of ${options.domain} (${options.mac}): no DHCP lease, no neighbour, no agent`,
        hint: 'does the guest get an answer from the DHCP server? its console says so',
      });
    await sleep(options.intervalMs ?? 500, undefined, { signal: options.signal }).catch(() => undefined);
  }
}

/** IPv4 before IPv6; never a link-local address. */
function choose(found: readonly GuestAddress[], mac: string): string | undefined {
  const own = found
    .filter((entry) => entry.mac.toLowerCase() === mac && !/^(fe80|127\.|::1)/i.test(entry.address))
    .map(({ address }) => address);
  return own.find((address) => isIPv4(address)) ?? own[0];
}

/** `/proc/net/arp`: address, hardware type, flags, MAC, mask, device. Complete entries only. */
function neighbours(path: string): GuestAddress[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return [];
  }
  return text.split('\n').flatMap((line) => {
    const [address = '', , flags = '', mac = ''] = line.trim().split(/\s+/);
    return isIPv4(address) && (Number(flags) & 2) !== 0 ? [{ address, mac }] : [];
  });
}
