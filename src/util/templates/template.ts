// EJS templates: one escape function a language, so that `<%= it.x %>` is always safe where it stands.
import type { ErrorCode } from '../error-codes.ts';
import { VmbatchError } from '../errors.ts';
import { shellQuote, xmlEscape, yamlQuote } from '../quote.ts';
import { loadTemplate } from './template-source.ts';

export const ESCAPES = {
  /** Element content and quoted attributes. */
  xml: (value: unknown) => xmlEscape(String(value)),
  /** One POSIX shell word, quotes included. */
  sh: (value: unknown) => shellQuote(String(value)),
  text: (value: unknown) => String(value),
  /** A YAML scalar: JSON is one, whatever stands in it. */
  yaml: (value: unknown) => (typeof value === 'number' ? String(value) : yamlQuote(String(value))),
  /** Text that must stay on its line. */
  line: (value: unknown) => {
    const text = String(value);
    if (/[\0\r\n]/.test(text)) throw new Error('a value with a line break cannot stand here');
    return text;
  },
};
export type Language = keyof typeof ESCAPES;

/** Renders `templates/NAME.ejs`. In the template the data is `it`; an unknown variable is an error, not an
 * empty string, and so is a value that is undefined where `<%= %>` stands. `<%= %>` escapes for the language,
 * `<%- %>` puts in text that is already in that language.
 * @throws VmbatchError `bug` if there is no such template or a value is missing */
export function renderTemplate(name: string, data: object, language: Language): string {
  const template = loadTemplate(name);
  if (template === undefined) throw bug('resource-missing', `there is no template ${name}`);
  const escapeValue = ESCAPES[language];
  return template(data, (value) => {
    if (value === undefined) throw bug('template-value', `the template ${name} got no value for a <%= %>`);
    return escapeValue(value);
  });
}

function bug(code: ErrorCode, message: string): VmbatchError {
  return new VmbatchError({ fault: 'bug', code, message, hint: 'copy the dist folder as a whole' });
}
