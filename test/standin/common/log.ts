// Appends to the day's file of a log directory, in the line format of TORQUE's daemons.
import { appendFileSync, chmodSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { dayName, logDate } from './format.ts';

export type Log = (type: string, kind: string, object: string, text: string) => void;

function append(directory: string, date: Date, line: string): void {
  const path = join(directory, dayName(date));
  const fresh = !existsSync(path);
  appendFileSync(path, line);
  // All users read these logs (scan's log mode depends on it), whatever the umask of the daemon is.
  if (fresh) chmodSync(path, 0o644);
}

/** `daemon` is `PBS_Server` or `   pbs_mom`; type is TORQUE's event number as written (`08`, `16`, `256`). */
export function openLog(directory: string, daemon: string): Log {
  return (type, kind, object, text) => {
    const date = new Date();
    const stamp = `${logDate(date)}.${String(date.getMilliseconds()).padStart(3, '0')}`;
    append(directory, date, `${stamp};${type};${daemon}.${process.pid};${kind};${object};${text}\n`);
  };
}

/** An accounting record: `date time;type;id;text`. */
export function openAccounting(directory: string): (type: string, id: string, text: string) => void {
  return (type, id, text) => {
    const date = new Date();
    append(directory, date, `${logDate(date)};${type};${id};${text}\n`);
  };
}

/** Now in whole epoch seconds, as attributes carry it. */
export function nowSeconds(): number {
  return Math.floor(Date.now() / 1000);
}
