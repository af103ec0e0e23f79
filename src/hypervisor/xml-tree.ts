// XML as a tree, for text that a site's template has made: elements, attributes and text, and nothing that a
// reader would have to fetch or expand.

export interface XmlNode {
  name: string;
  attributes: ReadonlyMap<string, string>;
  children: readonly XmlNode[];
  /** Its own text, entities resolved. */
  text: string;
}

/** Why a text is no XML of ours; `at` is a line. */
export class XmlProblem extends Error {
  override readonly name = 'XmlProblem';
}

const MAX_DEPTH = 50;
const NAME = /[A-Za-z_][\w.:-]*/y;
const ATTRIBUTE = /\s+([A-Za-z_][\w.:-]*)\s*=\s*(?:"([^"<]*)"|'([^'<]*)')/y;
const BLANK = /\s*/y;

/** The one element that a text holds.
 * @throws XmlProblem naming line and reason */
export function parseXml(text: string): XmlNode {
  const reader = new Reader(text);
  reader.skipMisc();
  const root = reader.element(0);
  reader.skipMisc();
  if (!reader.isAtEnd()) reader.fail('something stands after the end of the element');
  return root;
}

class Reader {
  #at = 0;
  readonly #text: string;

  constructor(text: string) {
    this.#text = text.startsWith('\uFEFF') ? text.slice(1) : text;
  }

  isAtEnd(): boolean {
    return this.#at >= this.#text.length;
  }

  fail(reason: string): never {
    const line = this.#text.slice(0, this.#at).split('\n').length;
    throw new XmlProblem(`line ${line} of its result: ${reason}`);
  }

  /** Blanks, comments and processing instructions around the element. */
  skipMisc(): void {
    for (;;) {
      this.#match(BLANK);
      if (this.#startsWith('<?')) this.#skipTo('?>');
      else if (this.#startsWith('<!--')) this.#skipTo('-->');
      else if (this.#startsWith('<!')) this.fail('a DOCTYPE is not allowed, nor what it would declare');
      else return;
    }
  }

  element(depth: number): XmlNode {
    if (depth > MAX_DEPTH) this.fail('elements are nested too deeply');
    if (!this.#startsWith('<')) this.fail('an element is missing here');
    this.#at++;
    const name = this.#match(NAME)?.[0] ?? this.fail('no name of an element');
    const attributes = new Map<string, string>();
    for (let found = this.#match(ATTRIBUTE); found !== undefined; found = this.#match(ATTRIBUTE)) {
      const key = found[1] ?? '';
      if (attributes.has(key)) this.fail(`attribute ${key} stands twice`);
      attributes.set(key, this.#resolve(found[2] ?? found[3] ?? ''));
    }
    this.#match(BLANK);
    if (this.#startsWith('/>')) {
      this.#at += 2;
      return { name, attributes, children: [], text: '' };
    }
    if (!this.#startsWith('>')) this.fail(`<${name} is not closed, or an attribute is not in quotes`);
    this.#at++;
    return { name, attributes, ...this.#content(name, depth) };
  }

  #content(name: string, depth: number): { children: XmlNode[]; text: string } {
    const children: XmlNode[] = [];
    let text = '';
    for (;;) {
      const next = this.#text.indexOf('<', this.#at);
      if (next < 0) this.fail(`<${name}> is not closed`);
      text += this.#resolve(this.#text.slice(this.#at, next));
      this.#at = next;
      if (this.#startsWith('</')) {
        const end = this.#text.indexOf('>', next);
        if (this.#text.slice(next + 2, end).trimEnd() !== name) this.fail(`<${name}> is not closed`);
        this.#at = end + 1;
        return { children, text };
      }
      if (this.#startsWith('<!--')) this.#skipTo('-->');
      else if (this.#startsWith('<?')) this.#skipTo('?>');
      else if (this.#startsWith('<![CDATA[')) {
        const from = this.#at + 9;
        this.#skipTo(']]>');
        text += this.#text.slice(from, this.#at - 3);
      } else children.push(this.element(depth + 1));
    }
  }

  #resolve(text: string): string {
    return text.replaceAll(/&([^;&]{0,20});?/g, (whole, name: string) => {
      const known = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" }[name];
      if (known !== undefined && whole.endsWith(';')) return known;
      const code = /^#(?:x([0-9a-f]{1,6})|(\d{1,7}))$/i.exec(name);
      const value = code?.[1] === undefined ? Number(code?.[2]) : Number.parseInt(code[1], 16);
      if (code === null || !whole.endsWith(';') || value > 0x10ffff)
        this.fail(`${whole} is no entity of XML itself`);
      return String.fromCodePoint(value);
    });
  }

  #startsWith(words: string): boolean {
    return this.#text.startsWith(words, this.#at);
  }

  #skipTo(end: string): void {
    const at = this.#text.indexOf(end, this.#at);
    if (at < 0) this.fail(`${end} is missing`);
    this.#at = at + end.length;
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text) ?? undefined;
    if (found !== undefined) this.#at = pattern.lastIndex;
    return found;
  }
}
