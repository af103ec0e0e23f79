import { describe, expect, it } from 'vitest';
import { macAddress } from '../../../../src/guest/network/mac.ts';

describe('macAddress', () => {
  it('is locally administered, the same for the same job and another for another, and for another attempt', () => {
    expect(macAddress('112.server')).toMatch(/^52:54(:[0-9a-f]{2}){4}$/);
    expect(macAddress('112.server')).toBe(macAddress('112.server'));
    expect(macAddress('112.server')).not.toBe(macAddress('113.server'));
    expect(macAddress('112.server', 1)).not.toBe(macAddress('112.server'));
  });
});
