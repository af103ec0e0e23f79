// The values of qsub that have a form of their own.
import { describe, expect, it } from 'vitest';
import { parseExecutionTime, parseStageList } from '../../standin/client/extras.ts';

const NOW = new Date(2026, 10, 22, 12, 0, 0);
const seconds = (...parts: [number, number, number, number, number, number?]) =>
  new Date(...parts).getTime() / 1000;

describe('the time of -a', () => {
  it.each([
    ['202612312359.30', seconds(2026, 11, 31, 23, 59, 30)],
    ['2612312359', seconds(2026, 11, 31, 23, 59)],
    ['12312359', seconds(2026, 11, 31, 23, 59)],
    ['302359', seconds(2026, 10, 30, 23, 59)],
    ['1300', seconds(2026, 10, 22, 13, 0)],
  ])('%s is filled up from the left with what is today', (text, expected) => {
    expect(parseExecutionTime(text, NOW)).toBe(expected);
  });

  it('without a day is tomorrow if it has passed today', () => {
    expect(parseExecutionTime('1100', NOW)).toBe(seconds(2026, 10, 23, 11, 0));
  });

  it.each(['', 'tomorrow', '2560', '99', '1200.5', '2400'])('%j is none', (text) => {
    expect(parseExecutionTime(text, NOW)).toBeUndefined();
  });
});

describe('a stage list', () => {
  it('names local file, host and remote file of each item, with or without quotes', () => {
    const expected = [
      { local: '/scratch/1', host: 'ce', remote: '/sessions' },
      { local: '/scratch/1.diag', host: 'ce', remote: '/sessions/1.diag' },
    ];
    const text = '/scratch/1@ce:/sessions,/scratch/1.diag@ce:/sessions/1.diag';
    expect(parseStageList(text)).toEqual(expected);
    expect(parseStageList(`"${text}"`)).toEqual(expected);
  });

  it.each(['', '/a', '/a@ce', '/a@ce:', '@ce:/a'])('%j is none', (text) => {
    expect(parseStageList(text)).toBeUndefined();
  });
});
