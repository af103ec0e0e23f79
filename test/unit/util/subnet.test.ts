import { describe, expect, it } from 'vitest';
import { isOnLink } from '../../../src/util/subnet.ts';

describe('isOnLink', () => {
  it.each([
    ['192.0.2.1', '192.0.2.10', 24, false],
    ['192.0.3.1', '192.0.2.10', 24, true],
    ['192.0.3.1', '192.0.2.10', 23, false],
    ['192.0.2.11', '192.0.2.10', 31, false],
    ['192.0.2.12', '192.0.2.10', 31, true],
    ['192.0.2.11', '192.0.2.10', 32, true],
    ['10.255.255.254', '10.0.0.1', 8, false],
    ['127.0.0.1', '255.255.255.254', 1, true],
    ['1.2.3.4', '200.1.2.3', 0, false],
  ] as const)('the gateway %s of %s/%i is outside its network: %j', (gateway, address, length, expected) => {
    expect(isOnLink(gateway, address, length)).toBe(expected);
  });
});
