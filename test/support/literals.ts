// The texts in a TypeScript source: each string and template, with a word in the place of what a template
// puts in.

/** What stands for a value that is known when the program runs. */
export const SAMPLE = 'sample';

export interface Literal {
  text: string;
  /** Where it begins. */
  at: number;
}

/** Good enough for sources that are formatted as ours are. */
export function literalsIn(source: string): Literal[] {
  const found: Literal[] = [];
  read(source, 0, undefined, found);
  return found;
}

/** @param until the bracket that ends this part
 * @returns where it ended */
function read(source: string, from: number, until: string | undefined, found: Literal[]): number {
  let depth = 0;
  let at = from;
  while (at < source.length) {
    const character = source[at] ?? '';
    if (source.startsWith('//', at)) at = source.indexOf('\n', at);
    else if (source.startsWith('/*', at)) at = source.indexOf('*/', at) + 2;
    else if (
      character === '/' &&
      /[(,=:[!&|?{;\n]\s*$|\breturn\s*$/.test(source.slice(Math.max(0, at - 20), at))
    )
      at = endOfExpression(source, at);
    else if (character === "'" || character === '"' || character === '`') at = readText(source, at, found);
    else {
      if (character === '{') depth++;
      if (character === until && depth === 0) return at + 1;
      if (character === '}') depth--;
      at++;
    }
    if (at <= 0) break;
  }
  return source.length;
}

function readText(source: string, begin: number, found: Literal[]): number {
  const quote = source[begin];
  let text = '';
  let at = begin + 1;
  while (at < source.length && source[at] !== quote) {
    if (source[at] === '\\') {
      text += source[at + 1] ?? '';
      at += 2;
    } else if (quote === '`' && source.startsWith('${', at)) {
      // A command that is put together elsewhere is what it was put together from.
      const inner: Literal[] = [];
      const end = read(source, at + 2, '}', inner);
      const expression = source.slice(at + 2, end - 1);
      const isCommand = expression.startsWith('commandLine(');
      text += isCommand ? wordsOf(expression) : SAMPLE;
      if (!isCommand) found.push(...inner);
      at = end;
    } else text += source[at++];
  }
  found.push({ text, at: begin });
  return at + 1;
}

/** The words of `commandLine('ip', 'link', name)`. */
function wordsOf(call: string): string {
  const inner = call.slice('commandLine('.length, -1);
  return inner
    .split(', ')
    .map((word) => /^['`](.*)['`]$/.exec(word.trim())?.[1]?.replaceAll(/\$\{[^}]*\}/g, SAMPLE) ?? SAMPLE)
    .join(' ');
}

function endOfExpression(source: string, begin: number): number {
  let inClass = false;
  for (let at = begin + 1; at < source.length; at++) {
    const character = source[at];
    if (character === '\\') at++;
    else if (character === '[') inClass = true;
    else if (character === ']') inClass = false;
    else if (character === '/' && !inClass) return at + 1;
  }
  return source.length;
}
