// Templates as functions of their data and their escape function, for scripts/build.mjs: the body that EJS
// would compile when the program runs.
import { readFileSync } from 'node:fs';
import ejs from 'ejs';

/** The text of a function expression. `include` is not there: a template that uses it fails when it is
 * rendered.
 * @param {string} path of the template */
export function compileTemplate(path) {
  const options = { filename: path, strict: true, localsName: 'it', compileDebug: false };
  const template = new ejs.Template(readFileSync(path, 'utf8'), options);
  template.compile();
  return `function (it, escapeFn) {\n'use strict';\n${template.source}}`;
}
