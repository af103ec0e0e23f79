// The plan of a soak: whatever the seed, every fault happens.
import { expect, it } from 'vitest';
import { FAULTS, planJobs } from '../../soak/plan.ts';

it('plans each fault at least once in two hundred jobs, whatever the seed', () => {
  const lacking = Array.from({ length: 2_000 }, (_, seed) => seed).filter((seed) => {
    const planned = new Set(planJobs(200, seed).map(({ fault }) => fault));
    return FAULTS.some((fault) => !planned.has(fault));
  });
  expect(lacking).toEqual([]);
});

it('plans the same jobs from the same seed', () => {
  expect(planJobs(200, 7)).toEqual(planJobs(200, 7));
});
