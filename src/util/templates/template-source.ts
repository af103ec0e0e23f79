// Compiles a template from its file. scripts/build.mjs puts templates compiled beforehand in this module's
// place: the program as it is installed neither reads templates nor loads EJS, which costs a fifth of Node's
// own start.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ejs from 'ejs';

/** A compiled template: `data` is `it` in it, and `escapeValue` is what `<%= %>` does. */
export type Template = (data: object, escapeValue: (value: unknown) => string) => string;

// From src/util/templates, or from a bundle of the tests in build/NAME.
const FOLDERS = ['../../../templates', '../../templates'].map((path) => join(import.meta.dirname, path));

/** The template `templates/NAME.ejs`; undefined if there is none. */
export function loadTemplate(name: string): Template | undefined {
  const path = FOLDERS.map((folder) => join(folder, `${name}.ejs`)).find((file) => existsSync(file));
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
