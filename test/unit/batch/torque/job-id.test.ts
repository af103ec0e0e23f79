import { describe, expect, it } from 'vitest';
import { isJobId, JobIds, mayBeSameJob } from '../../../../src/batch/torque/job-id.ts';

it.each([
  ['112.vm', true],
  ['112', true],
  ['113[4].server.example.org', true],
  ['113[].server', true],
  ['33.torque_server', true],
  ['33._torque', true],
  ['33.torque.example.org:15001', true],
  ['33.here@there.example.org', true],
  ['33.[2001:db8::1]:15001', true],
  [`1.${'a'.repeat(254)}`, true],
  [`1.${'a'.repeat(255)}`, false],
  ['-p', false],
  ['--', false],
  ['', false],
  ['all', false],
  ['.vm', false],
  ['5.vm;id', false],
  ['5.vm$(id)', false],
  ['5.vm 6.vm', false],
  ['5.vm\n', false],
  ['5.vm\t', false],
  ['5.v\x00m', false],
  ['5.v\x1bm', false],
  ['5./etc/passwd', false],
  ['5...', false],
  ['5.vm..', false],
  ['5.vm,6.vm', false],
])('knows what TORQUE may have given as an id: %j', (id, expected) => {
  expect(isJobId(id)).toBe(expected);
});

it.each([
  ['919778.pbs.scm', '919778.pbs', true],
  ['919778.PBS', '919778.pbs.scm', true],
  ['919778', '919778.pbs', true],
  ['33.host:15001', '33.host', true],
  ['33[2].host', '33[2].host.example.org', true],
  ['33[2].host', '33[3].host', false],
  ['33[].host', '33.host', false],
  ['33.host', '33.other', false],
  ['33.host', '330.host', false],
])('%s and %s: may be the same job: %s', (one, other, expected) => {
  expect(mayBeSameJob(one, other)).toBe(expected);
  expect(mayBeSameJob(other, one)).toBe(expected);
});

describe('ids', () => {
  it('are found by number and first part of the server, all that fit', () => {
    const ids = new JobIds(['5.pbs.a', '6.pbs.a', '7.pbs.a', '7.pbs.b', '7.other']);
    expect(ids.like('5.pbs')).toEqual(['5.pbs.a']);
    expect(ids.like('6')).toEqual(['6.pbs.a']);
    expect(ids.like('7.pbs')).toEqual(['7.pbs.a', '7.pbs.b']);
    expect(ids.like('8.pbs')).toEqual([]);
    ids.delete('7.pbs.a');
    expect(ids.like('7.pbs')).toEqual(['7.pbs.b']);
    ids.delete('7.pbs.b');
    ids.delete('7.other');
    expect(ids.like('7.pbs')).toEqual([]);
  });
});
