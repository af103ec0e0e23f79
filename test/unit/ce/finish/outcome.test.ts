import { describe, expect, it } from 'vitest';
import {
  accountedExitCode,
  lastWordsOf,
  outcomeOf,
  refusalOf,
  renderLrmsDone,
} from '../../../../src/ce/finish/outcome.ts';

const done = (
  ownExitCode: number | undefined,
  exitStatus: number | 'none' | 'forgotten',
  more: { cancelled?: boolean; lastWords?: string; deletedBy?: string; ownMessage?: string } = {},
) =>
  renderLrmsDone(
    outcomeOf({
      ownExitCode,
      torque:
        exitStatus === 'forgotten'
          ? undefined
          : { exitStatus: exitStatus === 'none' ? undefined : exitStatus, deletedBy: more.deletedBy },
      cancelled: more.cancelled ?? false,
      lastWords: more.lastWords,
      ownMessage: more.ownMessage,
    }),
  ).trimEnd();

describe('outcomeOf', () => {
  it.each([
    ['a job that went well', 0, 0, '0'],
    ['a job that exited 7', 7, 7, '7 Job exited with code 7'],
    ['a job whose exit code the mom forgot', 7, 0, '7 Job exited with code 7'],
    ['a job that TORQUE forgot', 7, 'forgotten', '7 Job exited with code 7'],
    ['a job that was done when TORQUE failed to end it', 0, -3, '0'],
    ['a job deleted with qdel', undefined, 271, '271 Job was deleted from the batch system (qdel)'],
    ['the same, its script saw the signal', 143, 271, '271 Job was deleted from the batch system (qdel)'],
    ['a job killed with SIGKILL', undefined, 265, '265 Job was killed by the batch system (SIGKILL)'],
    ['a job over its walltime', 143, -11, '-11 Job was killed: it exceeded its wall-clock time limit'],
    [
      'one that ended well on the signal',
      0,
      -11,
      '-11 Job was killed: it exceeded its wall-clock time limit',
    ],
    ['one that chose a code on the signal', 7, -12, '7 Job was killed: it exceeded its CPU time limit'],
    ['a job over its memory limit that exits 0', 0, -10, '-10 Job was killed: it exceeded its memory limit'],
    ['a job that killed itself', 143, 143, '143 Job exited with code 143'],
    [
      'a job whose guest was refused',
      undefined,
      -2,
      '-2 Job could not be started: its guest was refused on the node',
    ],
    [
      'a job without a guest',
      undefined,
      -14,
      '-14 Job could not be started: no guest could be made on its node',
    ],
    [
      'a lost job',
      undefined,
      'forgotten',
      '-1 Job was lost: the batch system no longer knows it, and it left no exit code',
    ],
    [
      'a job deleted while it waited',
      undefined,
      'none',
      '-1 Job was deleted from the batch system before it started',
    ],
    [
      'a job that never ran, though TORQUE reports 0',
      ...([
        undefined,
        0,
        '-1 Job did not run to its end: the batch system reports exit code 0, but the job left none',
      ] as const),
    ],
    ['a job that died of SIGSEGV', undefined, 267, '267 Job died of signal 11'],
    ['a job without a record', undefined, 5, '5 Job left no exit code, the batch system reports 5'],
    [
      'a job whose node failed',
      undefined,
      251,
      '251 Job could not be run to its end: its node or guest failed',
    ],
  ] as const)('of %s', (_, own, status, expected) => {
    expect(done(own, status)).toBe(expected);
  });

  it.each([
    [undefined, 0, '-1 Job was deleted on request'],
    [undefined, 271, '271 Job was deleted on request'],
    [143, 143, '143 Job was deleted on request'],
    [undefined, 'none', '-1 Job was deleted on request'],
    [undefined, 'forgotten', '-1 Job was deleted on request'],
    [0, 0, '0'],
    [7, 7, '7 Job exited with code 7'],
    [143, -11, '-11 Job was killed: it exceeded its wall-clock time limit'],
  ] as const)('of a cancelled job with its own code %s and %s from TORQUE', (own, status, expected) => {
    expect(done(own, status, { cancelled: true })).toBe(expected);
  });

  it.each([
    [undefined, 271, '271 Job was deleted from the batch system (qdel) by root@ce'],
    [undefined, 'none', '-1 Job was deleted from the batch system before it started, by root@ce'],
    [undefined, 0, '-1 Job was deleted from the batch system (qdel) by root@ce'],
    [undefined, 265, '265 Job was killed by the batch system (SIGKILL), deleted by root@ce'],
    [7, 0, '7 Job exited with code 7'],
  ] as const)('says who deleted a job with its own code %s and %s from TORQUE', (own, status, expected) => {
    expect(done(own, status, { deletedBy: 'root@ce' })).toBe(expected);
  });

  it("adds the batch job's last words where the job itself said nothing", () => {
    expect(done(undefined, 252, { lastWords: 'the share is away' })).toBe(
      '252 Job could not be run to its end: the site has a problem: the share is away',
    );
    expect(done(7, 7, { lastWords: 'unrelated' })).toBe('7 Job exited with code 7');
  });
});

describe("outcomeOf with a reason from the job's script", () => {
  const ownMessage = 'Runtime ENV/X stage 1 execution failed.';

  it('gives it instead of the bare code of a failed job', () => {
    expect(done(1, 1, { ownMessage })).toBe(`1 ${ownMessage}`);
    expect(done(9, 'forgotten', { ownMessage })).toBe(`9 ${ownMessage}`);
    expect(done(1, 1, { ownMessage: ' \t ' })).toBe('1 Job exited with code 1');
  });

  it('does not let it speak for TORQUE, or of a job that went well', () => {
    expect(done(0, 0, { ownMessage })).toBe('0');
    expect(done(1, -11, { ownMessage })).toBe('1 Job was killed: it exceeded its wall-clock time limit');
    expect(done(143, 271, { ownMessage })).toBe('271 Job was deleted from the batch system (qdel)');
  });

  it("bounds it, and reads its bytes as UTF-8: the file is the user's own", () => {
    expect(done(1, 1, { ownMessage: 'x'.repeat(100_000) }).length).toBeLessThan(350);
    expect(done(1, 1, { ownMessage: Buffer.from('Path "é"\x1b[2J').toString('latin1') })).toBe(
      '1 Path "é" [2J',
    );
  });
});

describe('renderLrmsDone', () => {
  it('is one line, whatever the text holds', () => {
    expect(renderLrmsDone({ code: 1, text: 'a\n0 b\r\x1b[31m' })).toBe('1 a 0 b [31m\n');
    expect(renderLrmsDone({ code: 1, text: 'é \ufffe \ud800 \uffff' })).toBe('1 é ? ? ?\n');
    expect(refusalOf('250 \xc3\xa9 \xef\xbf\xbe').text).toBe('é ?');
  });
});

describe('lastWordsOf', () => {
  it('takes what TORQUE says of a kill before all others', () => {
    const why = '=>> PBS: job killed: walltime 52 exceeded limit 12';
    expect(lastWordsOf(`=>> PBS: earlier\n${why}\nvmbatch: node fault: later\nmore\nTerminated\n`)).toBe(why);
  });

  it('takes the last line, or the last fault of ours with its hint behind it', () => {
    expect(lastWordsOf('one\n two \n\n')).toBe('two');
    expect(lastWordsOf('one\n[... 42 bytes left out ...]\n')).toBe('one');
    expect(lastWordsOf('vmbatch: node fault: no disk [x]\nvmbatch: what to do: y\n')).toBe(
      'vmbatch: node fault: no disk [x]',
    );
    expect(lastWordsOf('\n \n')).toBeUndefined();
    expect(lastWordsOf('why\nKilled\nTerminated\n')).toBe('why');
    expect(lastWordsOf('Terminated\n')).toBeUndefined();
    expect(lastWordsOf('x'.repeat(1000))?.length).toBe(300);
  });
});

describe('refusalOf', () => {
  it.each([
    ['250 image "x" is not allowed', '250 image "x" is not allowed'],
    ['252 the queue stayed full', '252 the queue stayed full'],
    ['0 all went well', '252 Job was refused when it was submitted; the reason cannot be read'],
    ['250', '252 Job was refused when it was submitted; the reason cannot be read'],
    [undefined, '252 Job was refused when it was submitted; the reason cannot be read'],
  ])('of %j', (value, expected) => {
    expect(renderLrmsDone(refusalOf(value))).toBe(`${expected}\n`);
  });

  it('is bounded, whatever the user wrote', () => {
    expect(renderLrmsDone(refusalOf(`250 ${'x'.repeat(100_000)}`)).length).toBeLessThan(2100);
  });
});

describe('accountedExitCode', () => {
  it('is never one that A-REX takes for success', () => {
    expect([accountedExitCode({ code: -11, text: 'x' }), accountedExitCode({ code: 7, text: 'x' })]).toEqual([
      143, 7,
    ]);
  });
});
