// Short options as getopt(3) reads them: bundled letters, values attached or in the next word.

export interface ParsedOptions {
  options: [letter: string, value: string][];
  operands: string[];
  /** The first letter that is unknown or lacks its value. */
  invalid?: { letter: string; missingValue: boolean };
}

/** `spec` is getopt's: letters, a colon after those that take a value. Options may follow operands. */
export function parseOptions(spec: string, argv: readonly string[]): ParsedOptions {
  const result: ParsedOptions = { options: [], operands: [] };
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index] ?? '';
    if (word === '--') {
      result.operands.push(...argv.slice(index + 1));
      break;
    }
    if (!word.startsWith('-') || word === '-') {
      result.operands.push(word);
      continue;
    }
    for (let at = 1; at < word.length; at++) {
      const letter = word.charAt(at);
      const known = letter === ':' ? -1 : spec.indexOf(letter);
      if (known < 0) return { ...result, invalid: { letter, missingValue: false } };
      if (spec.charAt(known + 1) !== ':') {
        result.options.push([letter, '']);
        continue;
      }
      const attached = word.slice(at + 1);
      const value = attached === '' ? argv[++index] : attached;
      if (value === undefined) return { ...result, invalid: { letter, missingValue: true } };
      result.options.push([letter, value]);
      break;
    }
  }
  return result;
}
