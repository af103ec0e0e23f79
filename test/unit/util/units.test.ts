// Sizes, durations, and how error messages show foreign values.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatDuration, formatSize, parseDuration, parseSize } from '../../../src/util/units.ts';
import { describeFound, isImageName, nearestName } from '../../../src/util/values.ts';

describe('parseSize and parseDuration', () => {
  it.each([
    ['512 MiB', 536_870_912],
    ['512MiB', 536_870_912],
    ['1 KiB', 1024],
    ['3 GiB', 3_221_225_472],
    ['2 TiB', 2_199_023_255_552],
    ['0 MiB', 0],
  ])('parseSize reads %s', (text, bytes) => expect(parseSize(text)).toBe(bytes));

  it.each([
    ['30 s', 30_000],
    ['250ms', 250],
    ['5 min', 300_000],
    ['2 h', 7_200_000],
  ])('parseDuration reads %s', (text, milliseconds) => expect(parseDuration(text)).toBe(milliseconds));

  it.each([
    '',
    '512',
    ' 1 MiB',
    '1  MiB',
    '1 MiB ',
    '1\nMiB',
    '-1 MiB',
    '+1 MiB',
    '1.5 GiB',
    '1e3 MiB',
    '0x1 MiB',
    '1 MB',
    '1 mib',
    'MiB',
    '1 s',
    '9007199254740993 KiB',
    '999999999999999 TiB',
    '１ MiB',
  ])('parseSize refuses %j', (text) => expect(parseSize(text)).toBeUndefined());

  it.each(['', '30', '30 sec', '30 m', '30 S', '-1 s', '1 MiB'])('parseDuration refuses %j', (text) =>
    expect(parseDuration(text)).toBeUndefined(),
  );

  it('formatSize and formatDuration write what is read back as the same', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 40 }), (amount) => {
        expect(parseSize(formatSize(amount * 1024))).toBe(amount * 1024);
        expect(parseDuration(formatDuration(amount))).toBe(amount);
      }),
      { numRuns: 200 },
    );
    expect(formatSize(536_870_912)).toBe('512 MiB');
    expect(formatSize(1000)).toBe('1000 bytes');
    expect(formatDuration(90_000)).toBe('90 s');
    expect(formatDuration(0)).toBe('0 ms');
  });
});

describe('describeFound', () => {
  it('shows any value as short printable ASCII', () => {
    expect(describeFound('a "b"\n\u001b[31m\u2028é')).toBe('"a \\"b\\"\\n\\u001b[31m\\u2028\\u00e9"');
    expect(describeFound({ a: [1, null] })).toBe('{"a":[1,null]}');
    expect(describeFound(null)).toBe('nothing');
    expect(describeFound('x'.repeat(78))).toBe(`"${'x'.repeat(78)}"`);
    expect(describeFound('x'.repeat(79))).toBe(`"${'x'.repeat(76)}...`);
    expect(describeFound('\0'.repeat(1_000_000))).toHaveLength(80);
  });
});

describe('nearestName', () => {
  it('finds what was probably meant, and nothing for a word of its own', () => {
    const keys = ['state', 'share', 'timeouts', 'default_image'];
    expect(nearestName('tiemouts', keys)).toBe('timeouts');
    expect(nearestName('default-image', keys)).toBe('default_image');
    expect(nearestName('STATE', keys)).toBe('state');
    expect(nearestName('squid', keys)).toBeUndefined();
    expect(nearestName('t'.repeat(1_000_000), keys)).toBeUndefined();
  });
});

describe('isImageName', () => {
  it('takes lower-case names of at most 64 characters that cannot leave a directory', () => {
    for (const name of ['demo', '4.cernvm_x-1', 'a'.repeat(64)]) expect(isImageName(name), name).toBe(true);
    for (const name of ['', '.', '..', '-x', 'a/b', 'Demo', 'a\n', 'a b', 'é', 'a'.repeat(65)])
      expect(isImageName(name), name).toBe(false);
  });
});
