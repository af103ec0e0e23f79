// Reading the XML of `qstat -x` and `pbsnodes -x` as plain text values.
import { VmbatchError } from '../util/errors.ts';

/** An element with children; leaves are strings. */
export type XmlElement = { readonly [name: string]: XmlValue };
type XmlValue = string | XmlElement | readonly XmlValue[];

/** The elements `name` below `<Data>`. Nothing at all is an empty list: that is how TORQUE says "none".
 * @param command for error messages
 * @throws VmbatchError `site` for text that is not such a document */
export async function parseData(xml: string, name: string, command: string): Promise<XmlElement[]> {
  if (xml.trim() === '') return [];
  const { XMLParser } = await import('fast-xml-parser');
  const parser = new XMLParser({
    ignoreAttributes: true,
    ignoreDeclaration: true,
    parseTagValue: false,
    isArray: (tag) => tag === name,
  });
  let document: unknown;
  try {
    document = parser.parse(xml);
  } catch (error) {
    throw refuse(command, xml, error);
  }
  if (!isXmlElement(document)) throw refuse(command, xml);
  const data = document['Data'];
  if (data === '') return [];
  // A document that was cut short still parses; its end shows.
  if (data === undefined || !isXmlElement(data) || !/<\/Data>\s*$/.test(xml)) throw refuse(command, xml);
  const found = data[name] ?? [];
  return Array.isArray(found) ? found.filter(isXmlElement) : [];
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

const refuse = (command: string, xml: string, cause?: unknown) =>
  new VmbatchError({
    fault: 'site',
    code: 'torque-answer',
    message: `${command}: found ${JSON.stringify(xml.slice(0, 80))}, must be <Data>...</Data>`,
    cause,
  });
