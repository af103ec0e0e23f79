import { expect, it } from 'vitest';
import { isJobId } from '../../../src/torque/job-id.ts';

it.each([
  ['112.vm', true],
  ['113[4].server.example.org', true],
  [`1.${'a'.repeat(254)}`, true],
  [`1.${'a'.repeat(255)}`, false],
  ['-p', false],
  ['5.vm;id', false],
])('knows what TORQUE may have given as an id: %s', (id, expected) => {
  expect(isJobId(id)).toBe(expected);
});
