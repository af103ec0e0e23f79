import { expect, it } from 'vitest';
import { localAddresses } from '../../../src/util/own-addresses.ts';

it('knows addresses of interfaces without a carrier, by the table of the kernel', () => {
  const table = [
    'Local:',
    '  +-- 0.0.0.0/0 3 0 5',
    '     |-- 0.0.0.0',
    '        /0 universe UNICAST',
    '           |-- 127.0.0.1',
    '              /32 host LOCAL',
    '           |-- 127.255.255.255',
    '              /32 link BROADCAST',
    '        |-- 192.0.2.1',
    '           /32 host LOCAL',
    '',
  ].join('\n');
  expect(localAddresses(table)).toEqual(['127.0.0.1', '192.0.2.1']);
});
