// EJS templates: one escape function a language, so that `<%= it.x %>` is always safe where it stands.
import { readFileSync } from 'node:fs';
import ejs from 'ejs';
import { shellQuote, xmlEscape } from './quote.ts';
import { resourcePath } from './resources.ts';

const ESCAPES = {
  /** Element content and quoted attributes. */
  xml: (value: unknown) => xmlEscape(String(value)),
  /** One POSIX shell word, quotes included. */
  sh: (value: unknown) => shellQuote(String(value)),
  text: (value: unknown) => String(value),
};

/** Renders `templates/NAME.ejs`. In the template the data is `it`; an unknown name is an error, not an
 * empty string. `<%= %>` escapes for the language, `<%- %>` puts in text that is already in that language. */
export function renderTemplate(name: string, data: object, language: keyof typeof ESCAPES): string {
  const path = resourcePath(`templates/${name}.ejs`);
  return ejs.render(readFileSync(path, 'utf8'), data, {
    filename: path,
    escape: ESCAPES[language],
    strict: true,
    localsName: 'it',
    rmWhitespace: false,
  });
}
