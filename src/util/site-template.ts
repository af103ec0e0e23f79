// Templates that an admin wrote: compiled when they are used, escaped as ours are, and their mistakes told with file and line.
import { readFileSync } from 'node:fs';
import { errnoOf, VmbatchError } from './errors.ts';
import { ESCAPES, type Language } from './template.ts';

export interface SiteTemplate {
  path: string;
  /** @throws VmbatchError `node` (`template-invalid`) with file, line and reason. */
  render(data: object, language: Language): string;
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
    throw invalid('template-invalid', `template ${path}: ${reasonOf(error)}`, error);
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

function invalid(code: string, message: string, cause?: unknown): VmbatchError {
  const hint =
    'correct the template; "vmbatch context build" and "vmbatch domain show" render it for a batch script';
  return new VmbatchError({ fault: 'node', code, message, hint, cause });
}
