// cloud-init's network-config (version 2, which is netplan's) for a guest.
import type { GuestNetwork } from './guest-context.ts';

/** A plain value to be written as JSON, which is YAML as well. The interface is found by its MAC address, if that is known, and
 * then called eth0: those of cloud-init's writers that know interfaces by name alone (ifupdown, networkd, NetworkManager) would
 * otherwise configure one that does not exist. Without a MAC every Ethernet interface is meant, of which a guest has one. */
export function networkConfig(network: GuestNetwork): object {
  const { dns = [], domain, mac } = network;
  const device =
    mac === undefined ? { match: { name: 'e*' } } : { match: { macaddress: mac }, 'set-name': 'eth0' };
  const nameservers =
    dns.length === 0 && domain === undefined
      ? {}
      : { nameservers: { addresses: dns, ...(domain === undefined ? {} : { search: [domain] }) } };
  return {
    version: 2,
    ethernets: { eth0: { ...device, ...addressesOf(network), ...nameservers } },
  };
}

function addressesOf(network: GuestNetwork): object {
  if (network.addressing === 'dhcp') return { dhcp4: true };
  const { address, prefixLength, gateway, address6 } = network;
  return {
    dhcp4: false,
    addresses: [
      `${address}/${prefixLength}`,
      ...(address6 === undefined ? [] : [`${address6.address}/${address6.prefixLength}`]),
    ],
    // Neither "default" nor gateway4, which some versions do not know. But "::/0" comes out of cloud-init as "::/64".
    ...(gateway === undefined ? {} : { routes: [{ to: '0.0.0.0/0', via: gateway }] }),
    ...(address6?.gateway === undefined ? {} : { gateway6: address6.gateway }),
  };
}
