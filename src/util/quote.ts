// Quoting for the languages that we write for others to execute or read.

/** A word for a POSIX shell: always in single quotes, so that no byte of it means anything.
 * @throws RangeError if it holds a NUL byte, which no shell word can. */
export function shellQuote(word: string): string {
  if (word.includes('\0')) throw new RangeError('a shell word cannot hold a NUL byte');
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** A command for people to copy: quotes only where they are needed. */
export function commandLine(...words: readonly string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : shellQuote(word))).join(' ');
}

/** Text for XML element content or a quoted attribute.
 * @throws RangeError for characters that XML 1.0 cannot hold at all. */
export function xmlEscape(text: string): string {
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    if ((code < 0x20 && code !== 9 && code !== 10 && code !== 13) || code === 0xfffe || code === 0xffff)
      throw new RangeError(`XML cannot hold the character U+${code.toString(16).padStart(4, '0')}`);
  }
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&apos;');
}

/** A double-quoted YAML scalar, which is a JSON string too: on one line, and nothing in it means anything. */
export function yamlQuote(text: string): string {
  // JSON leaves some characters as they are that YAML does not have, or takes for line ends.
  return JSON.stringify(text).replace(
    /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
