import { describe, expect, it } from 'vitest';
import {
  diagExitCode,
  diagTime,
  diagValue,
  mergeDiag,
  parseDiag,
  renderDiag,
} from '../../../src/arc/diag.ts';

describe('parseDiag', () => {
  it("keeps key=value lines in order and drops GNU time's prose", () => {
    expect(parseDiag('nodename=a\nCommand exited with non-zero status 7\nWallTime=1.5s\n\nx y=1\n')).toEqual([
      ['nodename', 'a'],
      ['WallTime', '1.5s'],
    ]);
  });

  it('reads the last value of a key, whatever its case', () => {
    expect(diagValue(parseDiag('WallTime=1s\nwalltime=2s\n'), 'WALLTIME')).toBe('2s');
  });
});

describe('diagExitCode', () => {
  it.each([
    ['exitcode=7\n', 7],
    ['exitcode=0\nexitcode=3\n', 3],
    ['exitcode=255', 255],
    ['exitcode=\n', undefined],
    ['exitcode=256\n', undefined],
    ['exitcode=-1\n', undefined],
    ['exitcode=7; rm\n', undefined],
    ['', undefined],
  ])('of %j is %s', (text, expected) => {
    expect(diagExitCode(parseDiag(text))).toBe(expected);
  });
});

describe('mergeDiag', () => {
  it("keeps the guest's values, fills in what is missing and sets the verdicts", () => {
    const merged = mergeDiag(
      parseDiag('nodename=guest\nexitcode=7\nLRMSExitcode=99\nWallTime=\n'),
      [
        ['nodename', 'n1'],
        ['nodename', 'n2'],
        ['WallTime', '9s'],
        ['Processors', '2'],
      ],
      [['LRMSExitcode', '271']],
    );
    expect(renderDiag(merged)).toBe(
      'nodename=guest\nexitcode=7\nWallTime=\nWallTime=9s\nProcessors=2\nLRMSExitcode=271\n',
    );
  });

  it('fills in a key that may come several times', () => {
    const nodes = [
      ['nodename', 'n1'],
      ['nodename', 'n2'],
    ] as const;
    expect(renderDiag(mergeDiag([], nodes, []))).toBe('nodename=n1\nnodename=n2\n');
  });

  it('cannot be made to write a second line by a value', () => {
    expect(renderDiag([['comment', 'a\nexitcode=0']])).toBe('comment=a exitcode=0\n');
  });
});

describe('diagTime', () => {
  it('writes epoch seconds as A-REX does', () => {
    expect(diagTime(1795339037)).toBe('20261122091717Z');
  });
});
