// Our lines in the mom's configuration: put in and taken out again, so that every other byte of the file
// stays as the site has it.
import { chmodSync, chownSync, existsSync, readFileSync, realpathSync, rmSync, statSync } from 'node:fs';
import {
  MAX_MOM_LINE,
  type MomConfig,
  parseMomConfig,
  prologAlarmOf,
  settingsNamed,
} from '../batch/torque/mom/mom-config.ts';
import { VmbatchError } from '../util/errors.ts';
import { writeFileAtomic } from '../util/files/files.ts';

const BEGIN = '# vmbatch: begin';
const END = '# vmbatch: end';
/** What has to be known to restore the file, in the first line of ours. */
const NO_NEWLINE = '(the line before had no end)';
const NO_FILE = '(there was no file)';
const OURS = new RegExp(`^${BEGIN}.*\\n(?:.*\\n)*?${END}\\n`, 'm');

export interface WantedLines {
  jobStarter: string;
  /** Seconds of `$prologalarm`. */
  alarm: number;
}

/** Seconds that `$prologalarm` should have: the mom gives a prologue ten seconds less, and a default start
 * takes up to 280. */
export function wantedAlarm(readyMs: number): number {
  return Math.max(300, Math.ceil(readyMs / 1000) + 20);
}

/** The lines that the file lacks, and what it has already stays. Later lines count, so ours stand at the end.
 * @throws VmbatchError `node` (`job-starter-present`) if the site has a job starter of its own: it is for all
 * its queues */
export function missingLines(mom: MomConfig, wanted: WantedLines): string[] {
  const lines: string[] = [];
  const own = settingsNamed(mom, 'job_starter').at(-1);
  if (own === undefined) lines.push(`$job_starter ${wanted.jobStarter}`);
  else if (own.value !== wanted.jobStarter)
    throw new VmbatchError({
      fault: 'node',
      code: 'job-starter-present',
      message: `${mom.file}:${own.line}: $job_starter is ${own.value} already`,
      hint: `take that line out, or call ${wanted.jobStarter} from that program for the queues that vmbatch serves`,
    });
  if (prologAlarmOf(mom) < wanted.alarm || settingsNamed(mom, 'prologalarm').length === 0)
    lines.push(`$prologalarm ${wanted.alarm}`);
  const unusable = lines.find((line) => line.length > MAX_MOM_LINE || /[#\n]/.test(line));
  if (unusable !== undefined)
    throw new VmbatchError({
      fault: 'node',
      code: 'mom-line',
      message: `the mom cannot read the line ${JSON.stringify(unusable)}: at most ${MAX_MOM_LINE} characters, no #`,
      hint: 'give the job starter a shorter path: --job-starter FILE',
    });
  return lines;
}

/** Puts our lines at the end of the text; those of an earlier time are replaced.
 * @param text undefined: there is no file yet */
function withLines(text: string | undefined, lines: readonly string[]): string {
  const rest = text === undefined ? '' : withoutLines(text);
  if (lines.length === 0) return rest ?? '';
  const note =
    text === undefined || rest === undefined
      ? ` ${NO_FILE}`
      : rest === '' || rest.endsWith('\n')
        ? ''
        : ` ${NO_NEWLINE}`;
  const before = note.includes(NO_NEWLINE) ? `${rest}\n` : (rest ?? '');
  return `${before}${BEGIN}${note}; vmbatch hooks uninstall takes these lines out\n${lines.join('\n')}\n${END}\n`;
}

/** The text as it was before; undefined: there was no file. */
function withoutLines(text: string): string | undefined {
  const found = OURS.exec(text);
  if (found === null) return text;
  const first = found[0].slice(0, found[0].indexOf('\n'));
  const [before, after] = [text.slice(0, found.index), text.slice(found.index + found[0].length)];
  if (first.includes(NO_FILE) && before + after === '') return undefined;
  return (first.includes(NO_NEWLINE) && after === '' ? before.replace(/\n$/, '') : before) + after;
}

/** The lines that are missing where none of ours are, and the file with them. */
export function planLines(
  file: string,
  wanted: WantedLines,
): { lines: string[]; before?: string; after: string } {
  const before = existsSync(file) ? readFileSync(file, 'utf8') : undefined;
  const settings = parseMomConfig(before === undefined ? '' : (withoutLines(before) ?? ''));
  const lines = missingLines({ file, exists: true, problem: undefined, settings }, wanted);
  return { lines, ...(before === undefined ? {} : { before }), after: withLines(before, lines) };
}

/** Writes our lines into the mom's configuration.
 * @returns the lines */
export function writeMomLines(file: string, wanted: WantedLines): string[] {
  const { lines, before, after } = planLines(file, wanted);
  replace(file, before, after);
  return lines;
}

/** Takes our lines out again; true if there were any. */
export function removeMomLines(file: string): boolean {
  if (!existsSync(file)) return false;
  const text = readFileSync(file, 'utf8');
  const rest = withoutLines(text);
  if (rest === undefined) rmSync(realpathSync(file));
  else replace(file, text, rest);
  return rest !== text;
}

/** Owner, mode and a link that leads to the file stay. */
function replace(file: string, before: string | undefined, after: string): void {
  if (before === after) return;
  if (before === undefined) {
    writeFileAtomic(file, after, 0o644);
    return;
  }
  const real = realpathSync(file);
  const { mode, uid, gid } = statSync(real);
  writeFileAtomic(real, after, mode & 0o7777);
  chownSync(real, uid, gid);
  chmodSync(real, mode & 0o7777);
}
