// The kinds of values in the node file: each checks one value and says what is allowed.
import { isIP, isIPv4, isIPv6 } from 'node:net';
import * as z from 'zod';
import {
  DURATION_RULE,
  formatDuration,
  formatSize,
  parseDuration,
  parseSize,
  SIZE_RULE,
} from '../util/units.ts';
import { parseRepositories } from '../util/values.ts';

/** Says what a value must be. The node file's problem list adds where it is and what was found. */
class Refusal {
  readonly allowed: string;
  constructor(allowed: string) {
    this.allowed = allowed;
  }
}

const MAX_TEXT = 1024;
const MAX_DURATION_MS = 24 * 3_600_000;

/** A value checked by `parse`; the issue's message is what is allowed. */
function value<T>(parse: (found: unknown) => T | Refusal) {
  return z.unknown().transform((found, context): T => {
    const result = parse(found);
    if (!(result instanceof Refusal)) return result;
    context.addIssue({ code: 'custom', message: result.allowed });
    return z.NEVER;
  });
}

/** Text for which `accept` holds. */
export function text(rule: string, accept: (found: string) => boolean) {
  return value((found) =>
    typeof found === 'string' && found.length <= MAX_TEXT && accept(found) ? found : new Refusal(rule),
  );
}

/** One of a few words. */
export function oneOf<const T extends string>(...words: readonly T[]) {
  const rule = words.join(', ');
  return value((found): T | Refusal => words.find((word) => word === found) ?? new Refusal(rule));
}

export function wholeNumber(least: number, most: number) {
  return value((found) =>
    typeof found === 'number' && Number.isInteger(found) && found >= least && found <= most
      ? found
      : new Refusal(`a whole number from ${least} to ${most}${plainly(found)}`),
  );
}

/** What may be wrong with how a number is written. */
function plainly(found: unknown): string {
  return typeof found === 'string' && /\d/.test(found)
    ? ', in decimal digits alone: no quotes, no zero before them, no fraction, no exponent'
    : '';
}

/** Not `022 s`: some read that as 18. */
const isPlain = (found: string) => !/^0\d/.test(found);

/** Bytes, at least `least`. */
export function size(least: number) {
  return value((found) => {
    const bytes = typeof found === 'string' && isPlain(found) ? parseSize(found) : undefined;
    if (bytes !== undefined && bytes >= least) return bytes;
    if (typeof found === 'number')
      return new Refusal(`${SIZE_RULE}; the unit is missing: write "${found} MiB" if you mean MiB`);
    return new Refusal(least > 0 ? `${SIZE_RULE}, at least ${formatSize(least)}` : SIZE_RULE);
  });
}

/** Milliseconds, from 1 ms to 24 h. */
export function duration() {
  return value((found) => {
    const milliseconds = typeof found === 'string' && isPlain(found) ? parseDuration(found) : undefined;
    if (milliseconds !== undefined && milliseconds > 0 && milliseconds <= MAX_DURATION_MS)
      return milliseconds;
    if (typeof found === 'number')
      return new Refusal(`${DURATION_RULE}; the unit is missing: write "${found} s" if you mean seconds`);
    return new Refusal(`${DURATION_RULE}, at most ${formatDuration(MAX_DURATION_MS)}`);
  });
}

/** Milliseconds, from none to 24 h. */
export function durationOrZero() {
  return value((found) => {
    const milliseconds = typeof found === 'string' && isPlain(found) ? parseDuration(found) : undefined;
    if (milliseconds !== undefined && milliseconds <= MAX_DURATION_MS) return milliseconds;
    return new Refusal(`${DURATION_RULE}, at most ${formatDuration(MAX_DURATION_MS)}`);
  });
}

/** Milliseconds; `off` is none. */
export function durationOrOff() {
  return value((found) => {
    // YAML 1.1 readers take `off` for false; be kind to who writes that.
    if (found === 'off' || found === false) return 0;
    const milliseconds = typeof found === 'string' && isPlain(found) ? parseDuration(found) : undefined;
    if (milliseconds !== undefined && milliseconds <= MAX_DURATION_MS) return milliseconds;
    return new Refusal(`off, or ${DURATION_RULE}, at most ${formatDuration(MAX_DURATION_MS)}`);
  });
}

/** A load per processor; `off` is no limit. */
export function loadLimit() {
  return value((found) => {
    if (found === 'off' || found === false) return undefined;
    // `2.0` and `2.50` come as text.
    const load = typeof found === 'string' && /^(0|[1-9]\d*)\.\d+$/.test(found) ? Number(found) : found;
    if (typeof load === 'number' && load > 0 && load <= 1000) return load;
    return new Refusal('off, or a load per processor: a number above 0, at most 1000');
  });
}

/** A number of guests, 0 for no limit, or `auto`. */
export function startsLimit() {
  return value((found) =>
    found === 'auto' || (typeof found === 'number' && Number.isInteger(found) && found >= 0 && found <= 1024)
      ? found
      : new Refusal(`auto, or a whole number from 0 to 1024${plainly(found)}`),
  );
}

export function flag() {
  return value((found) => (typeof found === 'boolean' ? found : new Refusal('true or false')));
}

const QUEUE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
export function queueName() {
  return text('a queue name of 1 to 64 of A-Z a-z 0-9 . _ -', (found) => QUEUE_NAME.test(found));
}

/** One word that is safe wherever it is put. */
export function word(what: string) {
  return text(`${what}: 1 to 64 of A-Z a-z 0-9 . _ + -`, (found) =>
    /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/.test(found),
  );
}

const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?';
const HOST_NAME = new RegExp(`^${LABEL}(?:\\.${LABEL})*$`);
function isHostName(found: string): boolean {
  return found.length <= 253 && HOST_NAME.test(found);
}
export function hostName() {
  return text('a host name such as wn1.example.org', isHostName);
}
export function hostOrAddress() {
  return text('a host name or an address', (found) => isHostName(found) || isIP(found) !== 0);
}
export function ipAddress() {
  return text('an IPv4 or IPv6 address', (found) => isIP(found) !== 0);
}
export function ipv4Address() {
  return text('an IPv4 address such as 192.0.2.10', isIPv4);
}
export function ipv6Address() {
  return text('an IPv6 address such as 2001:db8::10', (found) => isIPv6(found) && !found.includes('%'));
}
/** Lower case; of one machine, not of a group. */
export function macAddress() {
  return value((found) =>
    typeof found === 'string' && /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/i.test(found)
      ? found.toLowerCase()
      : new Refusal('the MAC address of one machine, such as "52:54:00:12:34:56"'),
  );
}

export function repositoryName() {
  return text(
    'the name of a CernVM-FS repository, such as alice.cern.ch',
    (found) => parseRepositories(found)?.length === 1,
  );
}

/** YAML reads 4.1 as a number and "4.1" as text: both are the NFS version. A bare 4 is 4.0. */
export function nfsVersion() {
  return value((found): '3' | '4.0' | '4.1' | '4.2' | Refusal => {
    const written = found === 4 ? '4.0' : String(found);
    for (const version of ['3', '4.0', '4.1', '4.2'] as const) if (version === written) return version;
    return new Refusal('3, 4.0, 4.1, 4.2');
  });
}

const PATH_RULE = 'an absolute path without "." and ".." parts and without control characters';

/** An absolute path; a trailing slash is taken off. */
export function absolutePath() {
  return value((found) => {
    if (typeof found !== 'string' || !isAbsolutePath(found)) return new Refusal(PATH_RULE);
    return found.endsWith('/') ? found.slice(0, -1) : found;
  });
}

const GUEST_PATH = /^[A-Za-z0-9/._@+,=~%:-]+$/;

/** An absolute path that guests use as well: their service hands it from shell to shell. */
export function guestPath() {
  return value((found) => {
    if (typeof found !== 'string' || !isGuestPath(found))
      return new Refusal(`${PATH_RULE}, of A-Z a-z 0-9 / . _ @ + , = ~ % : -, since guests have it too`);
    return found.endsWith('/') ? found.slice(0, -1) : found;
  });
}

/** Whether guests can have the path. */
export function isGuestPath(found: string): boolean {
  return isAbsolutePath(found) && GUEST_PATH.test(found);
}

/** Whether the text is an absolute path that stays where it points; `/` itself is none of ours. */
export function isAbsolutePath(found: string): boolean {
  if (!found.startsWith('/') || found.length > MAX_TEXT || hasControlCharacters(found)) return false;
  const parts = found.slice(1).split('/');
  if (parts.length > 1 && parts.at(-1) === '') parts.pop();
  return parts.every((part) => part !== '' && part !== '.' && part !== '..');
}

/** C0, DEL, C1 and the two line separators that some readers honour. */
export function hasControlCharacters(found: string): boolean {
  for (let index = 0; index < found.length; index++) {
    const code = found.charCodeAt(index);
    if (code < 0x20 || (code >= 0x7f && code < 0xa0) || code === 0x2028 || code === 0x2029) return true;
  }
  return false;
}
