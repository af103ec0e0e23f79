// cloud-init's network-config for a guest: the one form of it that each version of cloud-init and each of its
// writers gets right.
//
// - DHCP: version 2, which alone can say by what a client identifies itself. netplan hands that on; networkd
// would otherwise make an id of /etc/machine-id, which all guests of an image may share, and with it one
// lease.
// - Static addresses: version 1. Of version 2, cloud-init up to 25.1 makes a default route for ifupdown that
// needs a program which images no longer have, 18.x takes `dhcp4: false` for a wish for DHCP, and "::/0"
// comes out as "::/64".
// - A gateway outside the network: version 2, which alone can say that it is on the link.
//
// What a writer leaves out all the same (that of 21.x and 22.1 for networkd writes two addresses or gateways
// as if they were one) the guest service adds.
import { isOnLink } from '../util/subnet.ts';
import type { GuestNetwork } from './guest-context.ts';

type StaticNetwork = Extract<GuestNetwork, { addressing: 'static' }>;

/** A plain value to be written as JSON, which is YAML as well. The interface is found by its MAC address, if
 * that is known, and then called eth0: those of cloud-init's writers that know interfaces by name alone
 * (ifupdown, networkd, NetworkManager) would otherwise configure one that does not exist. Without a MAC every
 * Ethernet interface is meant, of which a guest has one. */
export function networkConfig(network: GuestNetwork): object {
  const { dns = [], domain, mac } = network;
  if (network.addressing === 'static' && mac !== undefined && !hasGatewayOnLink(network))
    return version1(network, mac);
  const device =
    mac === undefined ? { match: { name: 'e*' } } : { match: { macaddress: mac }, 'set-name': 'eth0' };
  const nameservers =
    dns.length === 0 && domain === undefined
      ? {}
      : { nameservers: { addresses: dns, ...(domain === undefined ? {} : { search: [domain] }) } };
  const addresses =
    network.addressing === 'dhcp' ? { dhcp4: true, 'dhcp-identifier': 'mac' } : addressesOf(network);
  return { version: 2, ethernets: { eth0: { ...device, ...addresses, ...nameservers } } };
}

function version1(network: StaticNetwork, mac: string): object {
  const { dns = [], domain, address, prefixLength, gateway, address6 } = network;
  const names = {
    ...(dns.length === 0 ? {} : { dns_nameservers: dns }),
    ...(domain === undefined ? {} : { dns_search: [domain] }),
  };
  const via = (router: string | undefined) => (router === undefined ? {} : { gateway: router });
  const subnets: object[] = [
    { type: 'static', address: `${address}/${prefixLength}`, ...via(gateway), ...names },
  ];
  if (address6 !== undefined)
    subnets.push({
      type: 'static',
      address: `${address6.address}/${address6.prefixLength}`,
      ...via(address6.gateway),
    });
  return { version: 1, config: [{ type: 'physical', name: 'eth0', mac_address: mac, subnets }] };
}

function addressesOf({ address, prefixLength, gateway, address6 }: StaticNetwork): object {
  const onLink = gateway !== undefined && isOnLink(gateway, address, prefixLength) ? { 'on-link': true } : {};
  return {
    addresses: [
      `${address}/${prefixLength}`,
      ...(address6 === undefined ? [] : [`${address6.address}/${address6.prefixLength}`]),
    ],
    ...(gateway === undefined ? {} : { routes: [{ to: '0.0.0.0/0', via: gateway, ...onLink }] }),
    ...(address6?.gateway === undefined ? {} : { gateway6: address6.gateway }),
  };
}

function hasGatewayOnLink({ gateway, address, prefixLength }: StaticNetwork): boolean {
  return gateway !== undefined && isOnLink(gateway, address, prefixLength);
}
