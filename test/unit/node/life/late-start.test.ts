// What is said of a start whose time was over: who set the time, in which file, and what to write there.

import { expect, it } from 'vitest';
import { parseMomConfig } from '../../../../src/batch/torque/mom/mom-config.ts';
import { explainLateStart } from '../../../../src/node/life/late-start.ts';
import type { ErrorCode } from '../../../../src/util/error-codes.ts';
import { VmbatchError } from '../../../../src/util/errors.ts';

const file = '/var/spool/torque/mom_priv/config';

function explain(code: ErrorCode, lines: string | undefined, seconds = 5, said: readonly string[] = []) {
  const error = new VmbatchError({ fault: 'node', code, message: 'it was late', hint: 'look' });
  const settings = parseMomConfig(lines ?? '');
  const mom = lines === undefined ? undefined : { file, exists: true, settings, problem: undefined };
  const { message, hint } = explainLateStart(error, {
    ...{ mom, giveUpAt: seconds * 1000, readyMs: 280_000, said },
  });
  return `${message} -> ${hint}`;
}

it.each(['guest-not-ready', 'starts-busy', 'no-room', 'peer-silent'] as const)(
  'names the file, the line that it has, and the line that it should have: %s',
  (code) => {
    expect(explain(code, '$prologalarm 20')).toBe(
      `it was late; ${file} has $prologalarm 20: that leaves 5 s for a start, and timeouts.ready is 280 s -> ` +
        `write "$prologalarm 300" into ${file} and restart pbs_mom with -p, or make timeouts.ready shorter`,
    );
  },
);

it('says it of a line that counts, and of none for longer starts', () => {
  expect(explain('guest-not-ready', '$prologalarm 400\n$prologalarm 60')).toContain('has $prologalarm 60:');
  const error = new VmbatchError({ fault: 'node', code: 'guest-not-ready', message: 'late' });
  const mom = { file, exists: false, settings: [], problem: undefined };
  const time = { mom, giveUpAt: 275_000, readyMs: 600_000, said: [] };
  expect(explainLateStart(error, time).message).toContain(
    'has no $prologalarm, which means 300: that leaves',
  );
  expect(explainLateStart(error, time).hint).toContain('"$prologalarm 620"');
});

it('does not blame an alarm that is long enough, another error, or a start for which no mom waits', () => {
  expect(explain('guest-not-ready', '$prologalarm 300', 275)).toBe('it was late -> look');
  expect(explain('image-absent', '$prologalarm 20')).toBe('it was late -> look');
  expect(explain('guest-not-ready', undefined)).toBe('it was late -> look');
});

it('ends with what the console said last, and only of a guest', () => {
  expect(explain('guest-died', '$prologalarm 20', 5, ['a', 'b'])).toBe(
    'it was late; its console ended: a | b -> look',
  );
  expect(explain('guest-not-ready', '$prologalarm 20', 5, ['a'])).toMatch(/280 s; its console ended: a -> w/);
  expect(explain('no-room', '$prologalarm 300', 5, ['a'])).toBe('it was late -> look');
});
