// job.ID.local: A-REX's own notes on a job, of which scan needs three. A-REX rewrites it; never write it.

/** Byte strings (latin1). */
export interface LocalFile {
  /** Batch job id, there from INLRMS on. */
  localId: string | undefined;
  sessionDirectory: string | undefined;
  queue: string | undefined;
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
  return { localId: value('localid'), sessionDirectory: value('sessiondir'), queue: value('queue') };
}
