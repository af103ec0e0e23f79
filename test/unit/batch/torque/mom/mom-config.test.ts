import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  hookLimitMs,
  isOn,
  MAX_MOM_LINE,
  parseMomConfig,
  prologAlarmOf,
  readMomConfig,
  settingsNamed,
} from '../../../../../src/batch/torque/mom/mom-config.ts';

let folder: string;
let file: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmbatch-mom-config-'));
  file = join(folder, 'config');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const reading = (text: string) => {
  writeFileSync(file, text);
  return readMomConfig(file);
};

describe("the mom's configuration", () => {
  it.each([
    ['$prologalarm 120', 120],
    ['  $PrologAlarm\t 120  ', 120],
    ['$prologalarm 120 # two minutes', 120],
    ['$prologalarm 120s', 120],
    ['# $prologalarm 120', 300],
    ['prologalarm 120', 300],
    ['$prologalarm soon', 300],
    ['$prologalarm 0', 300],
    ['$prologalarm 40\n$prologalarm 120', 120],
    ['$prologalarm 120\n$prologalarm -1', 120],
    ['', 300],
  ])('is read as the mom reads it: %j', (text, seconds) => {
    expect(prologAlarmOf(reading(text))).toBe(seconds);
  });

  it('gives a hook ten seconds less, unless that would be nothing', () => {
    expect(hookLimitMs(reading('$prologalarm 300'))).toBe(290_000);
    expect(hookLimitMs(reading('$prologalarm 10'))).toBe(10_000);
    expect(hookLimitMs(readMomConfig(join(folder, 'nowhere')))).toBe(290_000);
  });

  it.each([
    ['$job_starter_run_privileged true', true],
    ['$job_starter_run_privileged Yes', true],
    ['$job_starter_run_privileged on', true],
    ['$job_starter_run_privileged true\n$job_starter_run_privileged off', false],
    ['$job_starter_run_privileged true\n$job_starter_run_privileged maybe', true],
    ['$job_starter_run_privileged', false],
  ])('has switches as the mom has: %j', (text, on) => {
    expect(isOn(reading(text), 'job_starter_run_privileged')).toBe(on);
  });

  it('keeps all lines of a name, with their numbers, and cuts what the mom cuts', () => {
    const long = `$job_starter /${'x'.repeat(MAX_MOM_LINE)}`;
    expect(parseMomConfig(`\n$job_starter /a b \n${long}\n`)).toEqual([
      { name: 'job_starter', value: '/a b', line: 2, isCut: false },
      { name: 'job_starter', value: `/${'x'.repeat(MAX_MOM_LINE - 14)}`, line: 3, isCut: true },
    ]);
    expect(settingsNamed(reading('$usecp *:/home /home\n'), 'usecp')).toHaveLength(1);
  });

  it.runIf(process.geteuid?.() === 0)('says why the mom does not read a file', () => {
    expect(reading('$prologalarm 20').problem).toBeUndefined();
    chmodSync(file, 0o664);
    expect(readMomConfig(file).problem).toBe('others than root may write to it');
    chmodSync(file, 0o644);
    chownSync(file, 65534, 65534);
    expect(readMomConfig(file).problem).toBe('it belongs to uid 65534, not to root');
  });
});
