// Compiles a template from its file. scripts/build.mjs puts templates compiled beforehand in this module's
// place: the program as it is installed neither reads templates nor loads EJS, which costs a fifth of Node's
// own start.
import { readFileSync } from 'node:fs';
import ejs from 'ejs';
import { findResource } from '../program/resources.ts';

/** A compiled template: `data` is `it` in it, and `escapeValue` is what `<%= %>` does. */
export type Template = (data: object, escapeValue: (value: unknown) => string) => string;

/** The template `templates/NAME.ejs`; undefined if there is none. */
export function loadTemplate(name: string): Template | undefined {
  const path = findResource(`templates/${name}.ejs`);
  if (path === undefined) return undefined;
  const text = readFileSync(path, 'utf8');
  return (data, escapeValue) =>
    ejs.render(text, data, {
      filename: path,
      escape: escapeValue,
      strict: true,
      localsName: 'it',
      rmWhitespace: false,
    });
}
