// job.ID.local: A-REX's own notes on a job, of which scan needs three. A-REX rewrites it; never write it.

/** Byte strings (latin1). */
export interface LocalFile {
  /** Batch job id, there from INLRMS on. */
  localId: string | undefined;
  sessionDirectory: string | undefined;
  queue: string | undefined;
  /** When the job came to A-REX, epoch milliseconds. */
  startTime: number | undefined;
}

/** @param text the file's bytes as latin1: `key=value` lines, no quoting for these keys */
export function parseLocal(text: string): LocalFile {
  const value = (key: string): string | undefined => {
    const found = text.startsWith(`${key}=`) ? 0 : text.indexOf(`\n${key}=`) + 1;
    if (found === 0 && !text.startsWith(`${key}=`)) return undefined;
    const end = text.indexOf('\n', found);
    const line = text.slice(found + key.length + 1, end < 0 ? undefined : end);
    return line === '' ? undefined : line;
  };
  return {
    localId: value('localid'),
    sessionDirectory: value('sessiondir'),
    queue: value('queue'),
    startTime: parseTime(value('starttime')),
  };
}

/** The batch job's id alone: what a scan of many jobs asks for. */
export function localIdOf(text: string): string | undefined {
  const found = text.indexOf('\nlocalid=');
  if (found < 0) return parseLocal(text).localId;
  const end = text.indexOf('\n', found + 9);
  const id = text.slice(found + 9, end < 0 ? undefined : end);
  return id === '' ? undefined : id;
}

/** `20261122092134Z`. */
function parseTime(text: string | undefined): number | undefined {
  const match = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text ?? '');
  if (match === null) return undefined;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1).map(Number);
  return Date.UTC(year, month - 1, day, hour, minute, second);
}
