import { describe, expect, it } from 'vitest';
import { parseImageOptions } from '../../../src/commands/image.ts';

describe('parseImageOptions', () => {
  it('takes the directory from --out, VMBATCH_CACHE or the default, in this order', () => {
    const directory = (argv: string[], environment: NodeJS.ProcessEnv) =>
      parseImageOptions(['build-demo', ...argv], environment).directory;
    expect(directory(['--out', 'here'], { VMBATCH_CACHE: '/scratch' })).toBe('here');
    expect(directory([], { VMBATCH_CACHE: '/scratch' })).toBe('/scratch/demo-image');
    expect(directory([], { VMBATCH_CACHE: '' })).toBe('/var/cache/vmbatch/demo-image');
    expect(directory([], {})).toBe('/var/cache/vmbatch/demo-image');
  });

  it('reads the switches', () => {
    expect(parseImageOptions(['build-demo'], {})).toMatchObject({ force: false, print: false, help: false });
    expect(parseImageOptions(['--force', 'build-demo', '--print'], {})).toMatchObject({
      force: true,
      print: true,
    });
    expect(parseImageOptions(['-h'], {}).help).toBe(true);
  });

  it.each([
    [[], 'found nothing where "build-demo" is expected'],
    [['build'], 'found "build" where "build-demo" is expected'],
    [['build-demo', 'now'], 'found "build-demo now" where "build-demo" is expected'],
    [['build-demo', '--out', ''], '--out is empty'],
    [['build-demo', '--quick'], "Unknown option '--quick'"],
  ])('refuses %j', (argv, message) => {
    expect(() => parseImageOptions(argv, {})).toThrow(message);
  });
});
