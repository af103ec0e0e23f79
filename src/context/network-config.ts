// cloud-init's network-config (version 2, which is netplan's) for a guest.
import type { GuestNetwork } from './guest-context.ts';

/** A plain value to be written as JSON, which is YAML as well. The interface is found by its MAC address, if that is known;
 * otherwise every Ethernet interface is meant, of which a guest has one. */
export function networkConfig(network: GuestNetwork): object {
  const { dns = [], domain, mac } = network;
  const match = mac === undefined ? { name: 'e*' } : { macaddress: mac };
  const nameservers =
    dns.length === 0 && domain === undefined
      ? {}
      : { nameservers: { addresses: dns, ...(domain === undefined ? {} : { search: [domain] }) } };
  return {
    version: 2,
    ethernets: { vmbatch0: { match, ...addressesOf(network), ...nameservers } },
  };
}

function addressesOf(network: GuestNetwork): object {
  if (network.addressing === 'dhcp') return { dhcp4: true };
  const { address, prefixLength, gateway, address6 } = network;
  const routes = [
    ...(gateway === undefined ? [] : [{ to: '0.0.0.0/0', via: gateway }]),
    ...(address6?.gateway === undefined ? [] : [{ to: '::/0', via: address6.gateway }]),
  ];
  return {
    dhcp4: false,
    addresses: [
      `${address}/${prefixLength}`,
      ...(address6 === undefined ? [] : [`${address6.address}/${address6.prefixLength}`]),
    ],
    ...(routes.length === 0 ? {} : { routes }),
  };
}
