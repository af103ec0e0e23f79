// The addresses of this machine.
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';

/** IPv4 and IPv6, also of interfaces without a carrier, such as a bridge on which no guest is yet: Node
 * leaves those out. An address may come twice. */
export function ownAddresses(): string[] {
  return [
    ...Object.values(networkInterfaces()).flatMap((list) => list?.map(({ address }) => address) ?? []),
    ...localAddresses(kernelTable()),
  ];
}

function kernelTable(): string {
  try {
    return readFileSync('/proc/net/fib_trie', 'latin1');
  } catch {
    return '';
  }
}

/** IPv4 addresses in the kernel's own table.
 * @param fibTrie text of /proc/net/fib_trie */
export const localAddresses = (fibTrie: string): string[] =>
  [...fibTrie.matchAll(/\|-- ([0-9.]+)\n\s+\/32 host LOCAL/g)].map(([, address = '']) => address);
