// The `.diag` file: what a job's own script and the scan report to A-REX's accounting.

/** `key=value` pairs in the file's order; byte strings (latin1). Keys are compared without case, as A-REX
 * does. */
export type Diag = readonly (readonly [key: string, value: string])[];

/** Keeps the `key=value` lines; GNU time adds lines of prose, which are dropped.
 * @param text the file's bytes as latin1 */
export function parseDiag(text: string): Diag {
  const pairs: [string, string][] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*([A-Za-z][A-Za-z0-9_]*)=(.*)$/.exec(line);
    if (match?.[1] !== undefined && match[2] !== undefined) pairs.push([match[1], match[2].trim()]);
  }
  return pairs;
}

/** The last value of a key, as A-REX takes it; undefined if absent or empty. */
export function diagValue(diag: Diag, key: string): string | undefined {
  const found = diag.findLast(([name]) => name.toLowerCase() === key.toLowerCase())?.[1];
  return found === '' ? undefined : found;
}

/** The exit code that the job's own script wrote: 0 to 255, else it is not one. */
export function diagExitCode(diag: Diag): number | undefined {
  const value = diagValue(diag, 'exitcode');
  if (value === undefined || !/^[0-9]{1,3}$/.test(value) || Number(value) > 255) return undefined;
  return Number(value);
}

/** The guest's own values stay; `fallbacks` fill in what it did not write (a key may come several times), and
 * `verdicts` are set whatever was there, since only the scan knows them. */
export function mergeDiag(diag: Diag, fallbacks: Diag, verdicts: Diag): Diag {
  const overruled = new Set(verdicts.map(([key]) => key.toLowerCase()));
  const present = new Set(diag.filter(([, value]) => value !== '').map(([key]) => key.toLowerCase()));
  return [
    ...diag.filter(([key]) => !overruled.has(key.toLowerCase())),
    ...fallbacks.filter(([key]) => !present.has(key.toLowerCase()) && !overruled.has(key.toLowerCase())),
    ...verdicts,
  ];
}

/** The file's bytes as latin1. */
export function renderDiag(diag: Diag): string {
  return diag.map(([key, value]) => `${key}=${value.replaceAll(/[\r\n\0]/g, ' ')}\n`).join('');
}

/** Epoch seconds as A-REX writes times: `YYYYMMDDHHMMSSZ`. */
export function diagTime(epochSeconds: number): string {
  return `${new Date(epochSeconds * 1000).toISOString().replaceAll(/[-:T]|\.\d+Z/g, '')}Z`;
}
