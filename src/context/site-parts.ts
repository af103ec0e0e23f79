// User-data that an admin adds for all guests: EJS templates in a directory of his own.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, VmbatchError } from '../util/errors.ts';
import { openSiteTemplate } from '../util/templates/site-template.ts';
import type { Language } from '../util/templates/template.ts';
import { findPartProblem, PART_TYPES, type PartType, partInvalid, type UserDataPart } from './user-data.ts';

/** What a site's template sees as `it`. Nothing of it is secret. */
export interface SiteVariables {
  jobId: string;
  user: string;
  uid: number;
  group: string;
  gid: number;
  hostname: string;
  queue: string;
  image: string;
  vcpus: number;
  memoryMiB: number;
  repositories: string[];
  /** CernVM-FS proxies, or an empty text. */
  proxy: string;
  /** Where the shared file system is. */
  share: string;
  /** Where the scratch and the cache disk are mounted, or an empty text. */
  scratch: string;
  cache: string;
}

/** With these a directory is checked before any job depends on it. */
export const SAMPLE_VARIABLES: SiteVariables = {
  ...{
    jobId: '1.example',
    user: 'alice',
    uid: 5001,
    group: 'alice',
    gid: 5001,
    hostname: 'vmbatch-1-example',
  },
  ...{ queue: 'vmalice', image: 'demo', vcpus: 1, memoryMiB: 512, repositories: ['alice.cern.ch'] },
  ...{ proxy: 'DIRECT', share: '/shared', scratch: '', cache: '' },
};

/** `<%= %>` quotes for what the part is written in. */
const LANGUAGES: Readonly<Record<PartType, Language>> = {
  'cloud-config': 'yaml',
  'x-shellscript': 'sh',
  ucernvm: 'line',
  amiconfig: 'line',
};

const FILE_NAME = new RegExp(`^[A-Za-z0-9][A-Za-z0-9._-]*\\.(${PART_TYPES.join('|')})\\.ejs$`);

/** Renders all templates `NAME.TYPE.ejs` of the directory, in the order of their names.
 * @throws VmbatchError `node`: `context-templates` for a directory or a name, `template-invalid` for a
 * template. */
export async function loadSiteParts(directory: string, variables: SiteVariables): Promise<UserDataPart[]> {
  const parts: UserDataPart[] = [];
  for (const name of listTemplates(directory)) {
    const type = FILE_NAME.exec(name)?.[1] as PartType | undefined;
    if (type === undefined)
      throw refuse(
        `${join(directory, name)}: found a name that does not say what it is, allowed: NAME.TYPE.ejs with ${PART_TYPES.join(', ')}`,
      );
    const template = await openSiteTemplate(join(directory, name));
    parts.push({ name, type, text: template.render(variables, LANGUAGES[type]) });
  }
  return parts;
}

/** Renders the directory with sample values and reads the result as its readers would, before any job depends
 * on it.
 * @returns the parts, for their number and sizes
 * @throws VmbatchError as {@link loadSiteParts}; `node` (`user-data-invalid`) for a result that its reader
 * would not understand */
export async function checkSiteTemplates(directory: string): Promise<UserDataPart[]> {
  const parts = await loadSiteParts(directory, SAMPLE_VARIABLES);
  const { isMap, LineCounter, parseDocument } = await import('yaml');
  for (const part of parts) {
    const lines = new LineCounter();
    let problem = findPartProblem(part);
    if (problem === undefined && part.type === 'cloud-config') {
      // cloud-init reads YAML 1.1.
      const options = { version: '1.1', lineCounter: lines, prettyErrors: false } as const;
      const { errors, contents } = parseDocument(part.text, options);
      const [error] = errors;
      if (error !== undefined)
        problem = `is no YAML in line ${lines.linePos(error.pos[0]).line} of its result: ${error.message}`;
      else if (!isMap(contents)) problem = 'is no YAML mapping of keys and values';
    }
    if (problem !== undefined) throw partInvalid({ ...part, name: join(directory, part.name) }, problem);
  }
  return parts;
}

function listTemplates(directory: string): string[] {
  try {
    // Other files are the admin's business: notes, backups of editors.
    return readdirSync(directory)
      .filter((name) => name.endsWith('.ejs'))
      .sort();
  } catch (error) {
    throw refuse(`context.templates: ${directory} cannot be read (${errnoOf(error)})`, error);
  }
}

function refuse(message: string, cause?: unknown): VmbatchError {
  return new VmbatchError({
    fault: 'node',
    code: 'context-templates',
    message,
    hint: 'see docs/contextualisation.md',
    cause,
  });
}
