import { expect, it } from 'vitest';
import { demoDirectory } from '../../../src/commands/image.ts';

it('the demo image goes where --out says, else below VMBATCH_CACHE, else below /var/cache', () => {
  expect(demoDirectory('here', { VMBATCH_CACHE: '/scratch' })).toBe('here');
  expect(demoDirectory(undefined, { VMBATCH_CACHE: '/scratch' })).toBe('/scratch/demo-image');
  expect(demoDirectory(undefined, { VMBATCH_CACHE: '' })).toBe('/var/cache/vmbatch/demo-image');
  expect(demoDirectory(undefined, {})).toBe('/var/cache/vmbatch/demo-image');
  expect(() => demoDirectory('', {})).toThrow('--out is empty');
});
