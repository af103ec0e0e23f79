// Shell assignments read without a shell: the language of a grami file, and nothing of a shell beyond it.
import { VmbatchError } from '../util/errors.ts';
import { showBytes } from './text.ts';

/** One `key=value` of the file; the value is a byte string (latin1). */
export interface Assignment {
  key: string;
  value: string;
  line: number;
}

/** Bytes that stand for themselves outside quotes, in every shell and locale. */
const PLAIN = /[A-Za-z0-9_@%+=:,./^\x80-\xff-]+/y;
const KEY = /[A-Za-z0-9_]+/y;

/** Reads `key=value` lines as a POSIX shell would that may not expand anything: single quotes, double quotes,
 * backslashes, and words put together of these (`'it'\''s'`, `NAME='value'`). Blank lines and `#` lines are
 * skipped. Whatever else a shell would act upon (`$x`, backquotes, `;`, a second word) is refused.
 * @param text the file's bytes as latin1
 * @throws VmbatchError `site` `grami-malformed`, naming file, line, key and what was found */
export function parseAssignments(text: string, file: string): Assignment[] {
  return new AssignmentReader(text, file).all();
}

class AssignmentReader {
  readonly #text: string;
  readonly #file: string;
  #at = 0;
  #line = 1;

  constructor(text: string, file: string) {
    this.#text = text;
    this.#file = file;
  }

  all(): Assignment[] {
    const found: Assignment[] = [];
    while (this.#at < this.#text.length) {
      this.#skipBlanks();
      const next = this.#text[this.#at];
      if (next === undefined) break;
      if (next === '\n') this.#take();
      else if (next === '#') this.#skipLine();
      else found.push(this.#assignment());
    }
    return found;
  }

  #assignment(): Assignment {
    const line = this.#line;
    const key = this.#match(KEY);
    if (!/^[A-Za-z_]/.test(key) || this.#text[this.#at + key.length] !== '=')
      throw this.#refuse(undefined, `found ${this.#restOfLine()}, expected KEY=VALUE`);
    this.#at += key.length + 1;
    const value = this.#word(key);
    this.#skipBlanks();
    const next = this.#text[this.#at];
    if (next !== undefined && next !== '\n')
      throw this.#refuse(key, `found ${this.#restOfLine()} after the value`);
    return { key, value, line };
  }

  #word(key: string): string {
    let value = '';
    for (;;) {
      const next = this.#text[this.#at];
      if (next === undefined || next === '\n' || next === ' ' || next === '\t') return value;
      if (next === '\0') throw this.#refuse(key, 'found a NUL byte');
      if (next === "'") value += this.#singleQuoted(key);
      else if (next === '"') value += this.#doubleQuoted(key);
      else if (next === '\\') value += this.#escaped(key);
      else {
        const plain = this.#match(PLAIN);
        if (plain === '')
          throw this.#refuse(key, `found ${this.#restOfLine()} outside quotes, which a shell would act upon`);
        value += plain;
        this.#at += plain.length;
      }
    }
  }

  #singleQuoted(key: string): string {
    const close = this.#text.indexOf("'", this.#at + 1);
    if (close < 0) throw this.#refuse(key, `the quote in ${this.#restOfLine()} is not closed`);
    const value = this.#text.slice(this.#at + 1, close);
    if (value.includes('\0')) throw this.#refuse(key, 'found a NUL byte');
    this.#line += value.split('\n').length - 1;
    this.#at = close + 1;
    return value;
  }

  #doubleQuoted(key: string): string {
    const opened = this.#restOfLine();
    this.#take();
    let value = '';
    for (;;) {
      const next = this.#text[this.#at];
      if (next === undefined) throw this.#refuse(key, `the quote in ${opened} is not closed`);
      if (next === '\0') throw this.#refuse(key, 'found a NUL byte');
      if (next === '$' || next === '`')
        throw this.#refuse(key, `found ${this.#restOfLine()} in double quotes, which a shell would expand`);
      this.#take();
      if (next === '"') return value;
      const after = this.#text[this.#at];
      // In double quotes a backslash stays, except in front of these.
      if (next !== '\\' || after === undefined || !'$`"\\\n'.includes(after)) value += next;
      else if (this.#take() !== '\n') value += after;
    }
  }

  #escaped(key: string): string {
    const next = this.#text[this.#at + 1];
    if (next === undefined || next === '\n' || next === '\0')
      throw this.#refuse(key, 'found a backslash at the end of the line');
    this.#at += 2;
    return next;
  }

  /** What a sticky expression finds here; it may be nothing. */
  #match(expression: RegExp): string {
    expression.lastIndex = this.#at;
    return expression.exec(this.#text)?.[0] ?? '';
  }

  #take(): string {
    const next = this.#text[this.#at] ?? '';
    if (next === '\n') this.#line++;
    this.#at++;
    return next;
  }

  #skipBlanks(): void {
    while (this.#text[this.#at] === ' ' || this.#text[this.#at] === '\t') this.#at++;
  }

  #skipLine(): void {
    while (this.#at < this.#text.length && this.#text[this.#at] !== '\n') this.#at++;
  }

  #restOfLine(): string {
    const end = this.#text.indexOf('\n', this.#at);
    return showBytes(this.#text.slice(this.#at, end < 0 ? undefined : end));
  }

  #refuse(key: string | undefined, what: string): VmbatchError {
    return new VmbatchError({
      fault: 'site',
      code: 'grami-malformed',
      message: `${this.#file}:${this.#line}: ${key === undefined ? '' : `${key}: `}${what}`,
      hint: 'a grami file holds assignments only, values in single quotes; nothing in it is ever executed',
    });
  }
}
