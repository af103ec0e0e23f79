import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { localIdOf, parseLocal } from '../../../src/arc/local.ts';

const TRICKY = new URL('../../fixtures/arc/tricky.local', import.meta.url);

describe('parseLocal', () => {
  it("reads what scan needs of A-REX's file", () => {
    expect(parseLocal(readFileSync(TRICKY, 'latin1'))).toEqual({
      localId: '9010',
      sessionDirectory: '/srv/arex-samples/session/GeDNDmbwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmEBFKDmYHZSum',
      queue: 'main',
      startTime: Date.UTC(2026, 10, 22, 9, 21, 37),
    });
  });

  it('takes no part of another key or value for one', () => {
    expect(parseLocal('xlocalid=1\nargs=localid=2 sessiondir=/etc\nlocalid=\nqueue=q')).toEqual({
      localId: undefined,
      sessionDirectory: undefined,
      queue: 'q',
      startTime: undefined,
    });
  });
});

describe('localIdOf', () => {
  it.each([
    ['localid=1.vm\n', '1.vm'],
    ['queue=a\nlocalid=1.vm', '1.vm'],
    ['args=localid=1.vm\nlocalid=\n', undefined],
    ['xlocalid=1.vm\n', undefined],
  ])('of %j', (text, expected) => {
    expect(localIdOf(text)).toBe(expected);
  });
});
