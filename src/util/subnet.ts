// Whether addresses are in one network.

/** Whether a gateway lies outside the network of an IPv4 address, so that it is reached on the link alone. */
export function isOnLink(gateway: string, address: string, prefixLength: number): boolean {
  const mask = prefixLength === 0 ? 0 : (0xffff_ffff << (32 - prefixLength)) >>> 0;
  return (numberOf(gateway) & mask) >>> 0 !== (numberOf(address) & mask) >>> 0;
}

function numberOf(address: string): number {
  return address.split('.').reduce((sum, part) => ((sum << 8) | Number(part)) >>> 0, 0);
}
