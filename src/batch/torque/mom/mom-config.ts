// The mom's configuration, as pbs_mom itself reads it: which of its lines count, and what it makes of their
// values.
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, toVmbatchError } from '../../../util/errors.ts';

/** A line `$name value`. */
interface MomSetting {
  /** In small letters: the mom does not tell them apart. */
  name: string;
  value: string;
  /** From 1. */
  line: number;
  /** The mom reads so many characters of a line, and takes the rest for another. */
  isCut: boolean;
}

export interface MomConfig {
  file: string;
  /** False: the mom does without one, as with an empty one. */
  exists: boolean;
  settings: MomSetting[];
  /** Why the mom does not read the file that is there. */
  problem: string | undefined;
}

/** `fgets` with a buffer of 119 in `read_config`: its last character is the end of the string. */
export const MAX_MOM_LINE = 118;
const DEFAULT_PROLOG_ALARM = 300;

/** Reads `config` of a `mom_priv`. Never throws: what cannot be read is a problem of the file. */
export function readMomConfig(file: string): MomConfig {
  const none = { file, exists: false, settings: [], problem: undefined };
  try {
    const { uid, mode } = statSync(file);
    const settings = parseMomConfig(readFileSync(file, 'utf8'));
    const problem =
      uid !== 0
        ? `it belongs to uid ${uid}, not to root`
        : (mode & 0o022) !== 0
          ? 'others than root may write to it'
          : undefined;
    return { file, exists: true, settings, problem };
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error) ?? '')) return none;
    return { ...none, exists: true, problem: toVmbatchError(error, 'node').message };
  }
}

/** Blanks before the `$`, comments at the end and names in capitals are all fine with the mom. */
export function parseMomConfig(text: string): MomSetting[] {
  return text.split('\n').flatMap((whole, index) => {
    const isCut = whole.length > MAX_MOM_LINE;
    const pieces = isCut ? (whole.match(new RegExp(`.{1,${MAX_MOM_LINE}}`, 'gs')) ?? []) : [whole];
    return pieces.flatMap((piece) => {
      const [, name, value] = /^\s*\$([A-Za-z0-9:_]+)\s*(.*)$/s.exec(piece.replace(/#.*$/s, '')) ?? [];
      if (name === undefined || value === undefined) return [];
      return [{ name: name.toLowerCase(), value: value.trimEnd(), line: index + 1, isCut }];
    });
  });
}

/** All lines with the name, in their order: the last that the mom can use counts. */
export function settingsNamed({ settings }: MomConfig, name: string): MomSetting[] {
  return settings.filter((setting) => setting.name === name);
}

/** `$prologalarm` in seconds. */
export function prologAlarmOf(config: MomConfig): number {
  return saidPrologAlarm(config) ?? DEFAULT_PROLOG_ALARM;
}

/** The same, as far as it is said there; undefined: it is the mom's default. */
export function saidPrologAlarm(config: MomConfig): number | undefined {
  const values = settingsNamed(config, 'prologalarm').map(({ value }) => Number.parseInt(value, 10));
  return values.filter((value) => value > 0).at(-1);
}

/** Milliseconds after which the mom kills a hook, with the session it runs in: `$prologalarm`, less ten
 * seconds when it is more than ten. */
export function hookLimitMs(config: MomConfig): number {
  const seconds = prologAlarmOf(config);
  return (seconds > 10 ? seconds - 10 : seconds) * 1000;
}

/** A switch as the mom reads it: by its first letter, and the last that it understands counts. */
export function isOn(config: MomConfig, name: string): boolean {
  const values = settingsNamed(config, name).flatMap(({ value }) =>
    /^([ty1]|on$)/i.test(value) ? [true] : /^([fn0]|off$)/i.test(value) ? [false] : [],
  );
  return values.at(-1) ?? false;
}

/** The configuration that belongs to a `mom_priv`. */
export const momConfigIn = (momDirectory: string): string => join(momDirectory, 'config');
