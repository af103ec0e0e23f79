// The list of variables that a shell's `set` prints, read without a shell: every shell quotes it in its own
// way, all of them so that a shell can read it again.
import { encodeBytes } from '../text.ts';

/** The variables of the list that are wanted, byte for byte.
 * @param list what `set` printed, a byte string
 * @throws RangeError if the value of one that is wanted is quoted in a way that no shell we know has */
export function parseShellVariables(list: string, wanted: (name: string) => boolean): Map<string, string> {
  const values = new Map<string, string>();
  const assignment = /([A-Za-z_][A-Za-z0-9_]*)=/y;
  for (let at = 0; at < list.length; ) {
    assignment.lastIndex = at;
    const name = assignment.exec(list)?.[1];
    if (name === undefined) {
      const line = list.slice(at, endOfLine(list, at));
      // bash lists its functions behind its variables; their text may look like anything.
      if (line.endsWith(' () ')) break;
      at += line.length + 1;
      continue;
    }
    const word = readWord(list, assignment.lastIndex);
    if (word === undefined) {
      // Arrays of bash, which stand on one line.
      if (wanted(name)) throw new RangeError(`the value of ${name} cannot be read`);
      at = endOfLine(list, at) + 1;
      continue;
    }
    if (wanted(name)) values.set(name, word.value);
    at = word.end + 1;
  }
  return values;
}

function endOfLine(text: string, from: number): number {
  const end = text.indexOf('\n', from);
  return end < 0 ? text.length : end;
}

/** The word that begins at `at` and ends at the line's end; undefined if it is none.
 * Quotes are found by search, not by one expression for all: values may have megabytes. */
function readWord(text: string, at: number): { value: string; end: number } | undefined {
  const plain = /[^\s'"\\$`();&|<>]+/y;
  let value = '';
  for (;;) {
    const next = text[at];
    if (next === undefined || next === '\n') return { value, end: at };
    if (next === "'") {
      const close = text.indexOf("'", at + 1);
      if (close < 0) return undefined;
      value += text.slice(at + 1, close);
      at = close + 1;
    } else if (next === '"' || (next === '$' && text[at + 1] === "'")) {
      const quoted = next === '"' ? readDoubleQuoted(text, at + 1) : readEscaped(text, at + 2);
      if (quoted === undefined) return undefined;
      value += quoted.value;
      at = quoted.end;
    } else if (next === '\\' && at + 1 < text.length) {
      value += text[at + 1];
      at += 2;
    } else {
      plain.lastIndex = at;
      const run = plain.exec(text)?.[0];
      if (run === undefined) return undefined;
      value += run;
      at += run.length;
    }
  }
}

/** What follows `"`, up to the one that closes. */
function readDoubleQuoted(text: string, at: number): { value: string; end: number } | undefined {
  let value = '';
  for (let from = at; ; ) {
    const close = /["\\$`]/g;
    close.lastIndex = from;
    const found = close.exec(text);
    if (found === null) return undefined;
    value += text.slice(from, found.index);
    if (found[0] === '"') return { value, end: found.index + 1 };
    const after = text[found.index + 1];
    if (found[0] !== '\\' || after === undefined) return undefined;
    value += '$`"\\'.includes(after) ? after : `\\${after}`;
    from = found.index + 2;
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  ...{ a: '\x07', b: '\b', e: '\x1b', E: '\x1b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' },
  ...{ '\\': '\\', "'": "'", '"': '"', '?': '?' },
};

/** What follows `$'`, up to the quote that closes. */
function readEscaped(text: string, at: number): { value: string; end: number } | undefined {
  const special = /['\\]/g;
  const sequence = /([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|(.)/sy;
  let value = '';
  for (let from = at; ; ) {
    special.lastIndex = from;
    const found = special.exec(text);
    if (found === null) return undefined;
    value += text.slice(from, found.index);
    if (found[0] === "'") return { value, end: found.index + 1 };
    sequence.lastIndex = found.index + 1;
    const [, octal, hexadecimal, unicode, letter = ''] = sequence.exec(text) ?? [];
    if (octal !== undefined) value += String.fromCharCode(Number.parseInt(octal, 8) & 0xff);
    else if (hexadecimal !== undefined) value += String.fromCharCode(Number.parseInt(hexadecimal, 16));
    else if (unicode !== undefined) value += encodeBytes(String.fromCharCode(Number.parseInt(unicode, 16)));
    else if (Object.hasOwn(ESCAPES, letter)) value += ESCAPES[letter];
    else return undefined;
    from = sequence.lastIndex;
  }
}
