import { expect, it } from 'vitest';
import { jsonWithoutForbidden, withoutForbidden } from '../../../src/util/xml-characters.ts';

it.each([
  ['what is text', 'é "q" \\ \\u0001 \t\n\r 😀 </x>', undefined],
  ['control characters', 'a\0b\x01\b\f\x1b[31m', 'a?b????[31m'],
  ['characters that are none', '\ufffe\uffff', '??'],
  ['halves of surrogates', 'x\ud800y\udc00', 'x?y?'],
])('replaces what XML does not have: %s', (_, text, expected = text) => {
  expect(withoutForbidden(text)).toBe(expected);
  const document = { [text]: [text] };
  expect(JSON.parse(jsonWithoutForbidden(JSON.stringify(document)))).toEqual({ [expected]: [expected] });
});
