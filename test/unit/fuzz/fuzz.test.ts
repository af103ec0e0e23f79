// The fuzzer in small, with another seed each time; `npm run fuzz` is the same for as long as one likes.
import { describe, expect, it } from 'vitest';
import { fuzz } from '../../fuzz/fuzz.ts';
import { TARGETS } from '../../fuzz/targets.ts';

const SEED = Date.now() % 2 ** 31;

describe(`parsers of foreign text (seed ${SEED})`, () => {
  it.each(TARGETS.map((target) => [target.name, target] as const))(
    '%s: nothing but errors that say whose fault it is, and always soon',
    async (_name, target) => {
      const { failure, runs } = await fuzz(target, SEED, 400);
      expect(failure).toBeUndefined();
      expect(runs).toBeGreaterThan(0);
    },
  );

  it('are judged: one that throws something else, or hangs, is found', async () => {
    const target = { name: 'x', from: 'x', examples: () => [Buffer.from('abc')] };
    const breaks = { ...target, parse: (input: Buffer) => input.includes(0x7b) && JSON.parse('{') };
    expect((await fuzz(breaks, 1, 2_000)).failure).toContain('SyntaxError');
    const end = () => {
      const until = performance.now() + 2_100;
      while (performance.now() < until);
    };
    expect((await fuzz({ ...target, parse: end }, 1, 100)).failure).toMatch(/took \d+ ms/);
  });
});
