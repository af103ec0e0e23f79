// What error messages say about values: how the found one is shown, which name was probably meant.

const MAX_SHOWN = 80;
const MAX_COMPARED = 64;

/** Rule for image names, for error messages; {@link isImageName} checks it. */
export const IMAGE_NAME_RULE = 'a name of 1 to 64 of a-z 0-9 . _ - that begins with a letter or digit';

export function isImageName(text: string): boolean {
  return /^[a-z0-9][a-z0-9._-]{0,63}$/.test(text);
}

/** Rule for lists of CernVM-FS repositories, for error messages; {@link parseRepositories} checks it. */
export const REPOSITORIES_RULE =
  'at most 32 names of CernVM-FS repositories such as alice.cern.ch, with commas and no blanks';

/** The repositories of a list such as `alice.cern.ch,sft.cern.ch`, without repetitions; undefined if it is no
 * such list: names of at least two labels of a-z 0-9 and hyphens, at most 253 characters each, at most 32. */
export function parseRepositories(text: string): string[] | undefined {
  // Bounded before anything looks at it: the text may be a job's.
  if (text.length > 32 * 254) return undefined;
  const names = text.split(',');
  const label = '[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?';
  const name = new RegExp(`^${label}(?:\\.${label})+$`);
  if (names.length > 32 || !names.every((found) => found.length <= 253 && name.test(found))) return undefined;
  return [...new Set(names)];
}

/** A foreign value as JSON on one line, all of it printable ASCII, cut to 80 characters. */
export function describeFound(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  // A string is cut before it is escaped as well: it may be huge.
  const bounded = typeof value === 'string' ? value.slice(0, MAX_SHOWN + 1) : value;
  const json = JSON.stringify(bounded) ?? String(value);
  const escaped = json.replace(
    /[^ -~]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return escaped.length <= MAX_SHOWN ? escaped : `${escaped.slice(0, MAX_SHOWN - 3)}...`;
}

/** The candidate that was probably meant: at most a third of its letters (and two at least) differ. */
export function nearestName(name: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    const distance = editDistance(name.slice(0, MAX_COMPARED).toLowerCase(), candidate.toLowerCase());
    if (distance >= bestDistance || distance > Math.max(2, Math.floor(candidate.length / 3))) continue;
    best = candidate;
    bestDistance = distance;
  }
  return best;
}

/** Letters to insert, delete or replace to get from one word to the other (Levenshtein's distance). */
function editDistance(from: string, to: string): number {
  let previous = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let column = 1; column <= to.length; column++) {
      const replaced = (previous[column - 1] ?? 0) + (from[row - 1] === to[column - 1] ? 0 : 1);
      const shifted = Math.min(previous[column] ?? 0, current[column - 1] ?? 0) + 1;
      current.push(Math.min(replaced, shifted));
    }
    previous = current;
  }
  return previous[to.length] ?? 0;
}

/** What a guest needs for itself, beside the memory that its job asks for. */
export const GUEST_OVERHEAD_BYTES = 128 * 1024 ** 2;
