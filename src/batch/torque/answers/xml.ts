// What the XML of `qstat -x` and `pbsnodes -x` has in common.
import { VmbatchError } from '../../../util/errors.ts';

const ENTITIES: Readonly<Record<string, string>> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

/** What some builds of TORQUE write in place of a `<` within a value (`MXMLSetVal` in its source). */
const SHIFT_OUT = '\x0e';

/** An element's text as it was meant. A TORQUE 6.1 that was watched writes the five signs of XML as entities;
 * by their source other builds write all but `<` as they are. */
export function decodeText(text: string): string {
  const signs = text.includes(SHIFT_OUT) ? text.replaceAll(SHIFT_OUT, '<') : text;
  if (!signs.includes('&')) return signs;
  return signs.replaceAll(
    /&(?:#(\d{1,7})|#x([0-9a-fA-F]{1,6})|(\w{1,8}));/g,
    (whole, decimal, hexadecimal, name) => {
      if (name !== undefined) return (Object.hasOwn(ENTITIES, name) ? ENTITIES[name] : undefined) ?? whole;
      const code = decimal === undefined ? Number.parseInt(hexadecimal, 16) : Number(decimal);
      return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
    },
  );
}

/** A whole number; undefined for anything else. */
export function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^-?[0-9]{1,15}$/.test(text) ? Number(text) : undefined;
}

/** The error for an answer that is not the document that it should be.
 * @param found its beginning */
export const refuseDocument = (command: string, found: string, detail?: string) =>
  new VmbatchError({
    fault: 'site',
    code: 'torque-answer',
    message: `${command}: found ${JSON.stringify(found.slice(0, 80))}${detail === undefined ? '' : ` (${detail})`}, must be <Data>...</Data>`,
  });
