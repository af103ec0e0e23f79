// qsub's values that have a form of their own: the time of -a, the file lists of -W stagein= and stageout=.
import type { StagedFile } from '../common/protocol.ts';

/** `[[[[CC]YY]MM]DD]hhmm[.SS]`, in local time, as seconds since 1970. What is left out is today's; without a
 * day, a time that has passed is tomorrow's. Undefined if it is no such time. */
export function parseExecutionTime(text: string, now = new Date()): number | undefined {
  const match = /^(?:(?:(?:(\d\d)?(\d\d))?(\d\d))?(\d\d))?(\d\d)(\d\d)(?:\.(\d\d))?$/.exec(text);
  if (match === null) return undefined;
  const [century, year, month, day, hour, minute, second] = match
    .slice(1)
    .map((part?: string) => (part === undefined ? undefined : Number(part)));
  const thisYear = now.getFullYear();
  const date = new Date(
    year === undefined ? thisYear : (century ?? Math.floor(thisYear / 100)) * 100 + year,
    month === undefined ? now.getMonth() : month - 1,
    day ?? now.getDate(),
    hour,
    minute,
    second ?? 0,
  );
  if (date.getHours() !== hour || date.getMinutes() !== minute) return undefined;
  if (day === undefined && date < now) date.setDate(date.getDate() + 1);
  return Math.floor(date.getTime() / 1000);
}

/** `local@host:remote[,local@host:remote ...]`; undefined if it is no such list. */
export function parseStageList(text: string): StagedFile[] | undefined {
  const items = text.replace(/^"(.*)"$|^'(.*)'$/, '$1$2').split(',');
  const files: StagedFile[] = [];
  for (const item of items) {
    const [, local, host, remote] = /^([^@]+)@([^:@]+):(.+)$/.exec(item) ?? [];
    if (local === undefined || host === undefined || remote === undefined) return undefined;
    files.push({ local, host, remote });
  }
  return files;
}
