import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseLocal } from '../../../src/arc/local.ts';

const TRICKY = new URL('../../fixtures/arc/tricky.local', import.meta.url);

describe('parseLocal', () => {
  it("reads what scan needs of A-REX's file", () => {
    expect(parseLocal(readFileSync(TRICKY, 'latin1'))).toEqual({
      localId: '9010',
      sessionDirectory: '/srv/arex-samples/session/GeDNDmbwIpAoOSAtDmABFKDmABFKDmABFKDmAFGKDmEBFKDmYHZSum',
      queue: 'main',
    });
  });

  it('takes no part of another key or value for one', () => {
    expect(parseLocal('xlocalid=1\nargs=localid=2 sessiondir=/etc\nlocalid=\nqueue=q')).toEqual({
      localId: undefined,
      sessionDirectory: undefined,
      queue: 'q',
    });
  });
});
