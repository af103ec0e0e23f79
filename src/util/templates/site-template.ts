// Templates that an admin wrote: compiled when they are used, escaped as ours are, and their mistakes told
// with file and line.

import { readFileSync } from 'node:fs';
import { Script } from 'node:vm';
import type { ErrorCode } from '../error-codes.ts';
import { errnoOf, VmbatchError } from '../errors.ts';
import { writableByOthers } from '../files/trusted-file.ts';
import { ESCAPES, type Language } from './template.ts';

export interface SiteTemplate {
  path: string;
  /** @throws VmbatchError `node` (`template-invalid`) with file, line and reason. */
  render(data: object, language: Language): string;
}

/** The part of EJS that its types leave out. */
interface Compiler {
  Template: new (text: string, options: object) => { source?: string; compile(): unknown };
}

/** More than anybody writes by hand. */
const MAX_BYTES = 256 * 1024;

/** Reads and compiles a template.
 * @throws VmbatchError `node`: `template-missing`, `template-invalid`. */
export async function openSiteTemplate(path: string): Promise<SiteTemplate> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw invalid('template-missing', `template ${path} cannot be read (${errnoOf(error)})`, error);
  }
  // It is a program that root runs.
  const unsafe = process.geteuid?.() === 0 ? writableByOthers(path) : undefined;
  if (unsafe !== undefined)
    throw invalid('file-unsafe', `template ${path}: ${unsafe}, and root runs what stands in it`);
  if (text.length > MAX_BYTES)
    throw invalid(
      'template-invalid',
      `template ${path} has ${text.length} characters, allowed: ${MAX_BYTES}`,
    );
  const { default: ejs } = await import('ejs');
  const compile = (language: Language) =>
    ejs.compile(text, {
      filename: path,
      strict: true,
      localsName: 'it',
      escape: (value: unknown) => {
        if (value === undefined) throw new Error('a <%= %> has no value: is the name after "it." right?');
        return ESCAPES[language](value);
      },
    });
  try {
    compile('text');
  } catch (error) {
    const line = compileErrorLine(ejs as unknown as Compiler, text);
    const at = line === undefined ? '' : `line ${line}: `;
    throw invalid('template-invalid', `template ${path}: ${at}${reasonOf(error)}`, error);
  }
  return {
    path,
    render: (data, language) => {
      try {
        return compile(language)(data);
      } catch (error) {
        throw invalid('template-invalid', `template ${path}: ${reasonOf(error)}`, error);
      }
    },
  };
}

/** The line of a template that does not compile: EJS does not say it. */
function compileErrorLine(ejs: Compiler, source: string): number | undefined {
  const lines = source.split('\n');
  // A tag that is not closed before the next one.
  const tags = [...source.matchAll(/<%(?!%)|%>/g)];
  const open = tags.find(({ 0: tag }, index) => tag === '<%' && tags[index + 1]?.[0] !== '%>');
  if (open !== undefined) return source.slice(0, open.index).split('\n').length;
  // Compile longer and longer beginnings as the function body that EJS makes of the whole.
  const template = new ejs.Template(source, { strict: true, localsName: 'it' });
  try {
    template.compile();
  } catch {
    // As expected: what counts is the source that it left.
  }
  try {
    new Script(`(function () {${template.source ?? ''}\n})`, { filename: 'template' });
  } catch (error) {
    const at = Number(/^template:(\d+)\n/.exec((error instanceof Error && error.stack) || '')?.[1]);
    const before = (template.source ?? '').split('\n').slice(0, at);
    const marks = before
      .map((line) => /^ {4}; __line = (\d+)$/.exec(line)?.[1])
      .filter((mark) => mark !== undefined);
    return Math.min(Number(marks.at(-1) ?? 1), lines.length);
  }
  return undefined;
}

/** EJS puts file, line and an excerpt before the reason: `FILE:LINE\n…>> …\n\nREASON`. */
function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const line = /^[^\n]*:(\d+)\n/.exec(message)?.[1];
  const reason =
    message
      .trim()
      .split('\n\n')
      .at(line === undefined ? 0 : -1)
      ?.split('\n')[0] ?? message;
  return line === undefined ? reason : `line ${line}: ${reason}`;
}

function invalid(code: ErrorCode, message: string, cause?: unknown): VmbatchError {
  const hint =
    'correct the template; "vmbatch context build" and "vmbatch domain show" render it for a batch script';
  return new VmbatchError({ fault: 'node', code, message, hint, cause });
}
