// Sizes and durations with their unit in the value: `512 MiB`, `30 s`. A bare number is never one.

const SIZE_UNITS: ReadonlyMap<string, number> = new Map([
  ['KiB', 1024],
  ['MiB', 1024 ** 2],
  ['GiB', 1024 ** 3],
  ['TiB', 1024 ** 4],
]);

const DURATION_UNITS: ReadonlyMap<string, number> = new Map([
  ['ms', 1],
  ['s', 1000],
  ['min', 60_000],
  ['h', 3_600_000],
]);

/** What a size looks like, for error messages. */
export const SIZE_RULE = 'a whole number with KiB, MiB, GiB or TiB, such as "512 MiB"';
/** What a duration looks like, for error messages. */
export const DURATION_RULE = 'a whole number with ms, s, min or h, such as "30 s"';

/** Bytes of a size such as `512 MiB` or `512MiB`; undefined if it is none (no unit, decimal unit, fraction,
 * sign). */
export function parseSize(text: string): number | undefined {
  return parseQuantity(text, SIZE_UNITS);
}

/** Milliseconds of a duration such as `30 s` or `30s`; undefined if it is none. */
export function parseDuration(text: string): number | undefined {
  return parseQuantity(text, DURATION_UNITS);
}

/** A size in the largest unit that divides it: 536870912 is `512 MiB`. */
export function formatSize(bytes: number): string {
  return formatQuantity(bytes, SIZE_UNITS) ?? `${bytes} bytes`;
}

/** Whole MiB, for figures that are rarely round. */
export function formatMebibytes(bytes: number): string {
  return `${Math.floor(bytes / 1024 ** 2)} MiB`;
}

/** A duration in the largest unit that divides it: 30000 is `30 s`. */
export function formatDuration(milliseconds: number): string {
  return formatQuantity(milliseconds, DURATION_UNITS) ?? `${milliseconds} ms`;
}

function parseQuantity(text: string, units: ReadonlyMap<string, number>): number | undefined {
  let digits = 0;
  while (digits < text.length && text.charAt(digits) >= '0' && text.charAt(digits) <= '9') digits++;
  // Fifteen digits are exact in a double; nothing sensible is longer.
  if (digits === 0 || digits > 15) return undefined;
  const rest = text.slice(digits);
  const factor = units.get(rest.startsWith(' ') ? rest.slice(1) : rest);
  if (factor === undefined) return undefined;
  const value = Number(text.slice(0, digits)) * factor;
  return Number.isSafeInteger(value) ? value : undefined;
}

function formatQuantity(value: number, units: ReadonlyMap<string, number>): string | undefined {
  for (const [unit, factor] of [...units].reverse())
    if (value !== 0 && value % factor === 0) return `${value / factor} ${unit}`;
  return undefined;
}
