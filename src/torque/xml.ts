// Reading the XML of `qstat -x` and `pbsnodes -x` as plain text values: elements and text, which is all that TORQUE writes.
import { VmbatchError } from '../util/errors.ts';

/** An element with children; leaves are strings, and an element that comes several times is a list. */
export type XmlElement = { readonly [name: string]: XmlValue };
type XmlValue = string | XmlElement | readonly XmlValue[];

/** The elements `name` below `<Data>`. Nothing at all is an empty list: that is how TORQUE says "none".
 * @param command for error messages
 * @throws VmbatchError `site` for text that is not such a document */
export async function parseData(xml: string, name: string, command: string): Promise<XmlElement[]> {
  const document = xml.replace(/^\s*(<\?xml[^<>]*\?>)?\s*/, '').trimEnd();
  if (document === '') return [];
  if (!document.startsWith('<Data>')) throw refuseDocument(command, xml);
  const data = parseElement(document, command);
  const found = data[name] ?? [];
  return (Array.isArray(found) ? found : [found]).filter(isXmlElement);
}

/** The children of the one element that `text` holds.
 * @param command for error messages
 * @throws VmbatchError `site` if it is not well-formed */
export function parseElement(text: string, command: string): XmlElement {
  const reader = new ElementReader(text, command);
  const element = reader.readElement();
  if (reader.at !== text.length) throw refuseDocument(command, text, `goes on after ${reader.at} characters`);
  return typeof element === 'string' ? {} : element;
}

/** Deeper than TORQUE nests. */
const MAX_DEPTH = 20;

class ElementReader {
  at = 0;
  readonly #text: string;
  readonly #command: string;

  constructor(text: string, command: string) {
    this.#text = text;
    this.#command = command;
  }

  readElement(): string | XmlElement {
    return this.#readContent(this.#readTag(), 0);
  }

  #readContent(name: string, depth: number): string | XmlElement {
    // Without a prototype: an element may be called `constructor`.
    let children: Record<string, XmlValue> | undefined;
    const begin = this.at;
    for (;;) {
      const bracket = this.#text.indexOf('<', this.at);
      if (bracket < 0 || depth > MAX_DEPTH) throw this.#refuse();
      if (this.#text[bracket + 1] === '/') {
        if (!this.#text.startsWith(`${name}>`, bracket + 2)) throw this.#refuse();
        this.at = bracket + name.length + 3;
        return children ?? decodeText(this.#text.slice(begin, bracket));
      }
      this.at = bracket;
      const key = this.#readTag();
      const value = this.#readContent(key, depth + 1);
      children ??= Object.create(null) as Record<string, XmlValue>;
      const earlier = children[key];
      if (earlier === undefined) children[key] = value;
      else children[key] = Array.isArray(earlier) ? [...earlier, value] : [earlier, value];
    }
  }

  /** Reads `<name>`; TORQUE writes no attributes. */
  #readTag(): string {
    const end = this.#text.indexOf('>', this.at);
    const name = this.#text.slice(this.at + 1, end);
    if (end < 0 || this.#text[this.at] !== '<' || !/^\w{1,100}$/.test(name)) throw this.#refuse();
    this.at = end + 1;
    return name;
  }

  #refuse(): VmbatchError {
    return refuseDocument(this.#command, this.#text, `not well-formed after ${this.at} characters`);
  }
}

const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

/** An element's text, with its entities resolved. */
export function decodeText(text: string): string {
  if (!text.includes('&')) return text;
  return text.replaceAll(
    /&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(\w{1,8}));/g,
    (whole, decimal, hexadecimal, name) => {
      if (name !== undefined) return (Object.hasOwn(ENTITIES, name) ? ENTITIES[name] : undefined) ?? whole;
      const code = decimal === undefined ? Number.parseInt(hexadecimal, 16) : Number(decimal);
      return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
    },
  );
}

/** A leaf's text; undefined if absent or empty. */
export function textOf(element: XmlElement | undefined, name: string): string | undefined {
  const value = element?.[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

/** A leaf's whole number. */
export function numberOf(element: XmlElement | undefined, name: string): number | undefined {
  const text = textOf(element, name);
  return text !== undefined && /^-?[0-9]{1,15}$/.test(text) ? Number(text) : undefined;
}

/** A child with children of its own. */
export function childOf(element: XmlElement, name: string): XmlElement | undefined {
  const value = element[name];
  return value !== undefined && isXmlElement(value) ? value : undefined;
}

function isXmlElement(value: unknown): value is XmlElement {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The error for an answer that is not the document that it should be.
 * @param found its beginning */
export const refuseDocument = (command: string, found: string, detail?: string) =>
  new VmbatchError({
    fault: 'site',
    code: 'torque-answer',
    message: `${command}: found ${JSON.stringify(found.slice(0, 80))}${detail === undefined ? '' : ` (${detail})`}, must be <Data>...</Data>`,
  });
