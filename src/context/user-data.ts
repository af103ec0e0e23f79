// The user-data of a guest: one MIME message that cloud-init, the boot loader of µCernVM and CernVM's
// amiconfig each take their part of. None of the three knows of the others, so the order and the form of the
// parts matter:
//
// - cloud-init splits the message properly and takes the parts that it knows the type of; of two cloud-config
// parts with one key it takes the later one, so the site's come after ours. It warns of types that it does
// not know: a part handler that does nothing makes it know CernVM's.
// - µCernVM's boot loader reads lines between [ucernvm-begin] and [ucernvm-end], wherever they stand, and
// sources them as sh.
// - amiconfig drops everything before the first line that begins with a [section]; from there on it takes
// every line that looks like an option (`name: value`, `name = value`), MIME headers and boundaries too. So
// its part is the last, the one of µCernVM (whose marks are sections to it) the last but one, and the
// boundary has neither a colon nor an equals sign.
import type { KeyType } from '../node-file/config.ts';
import { VmbatchError } from '../util/errors.ts';
import { shellQuote } from '../util/quote.ts';
import { renderTemplate } from '../util/templates/template.ts';
import {
  amiconfigText,
  type CernvmSettings,
  findCernvmProblem,
  SECTION_LINE,
  ucernvmBlock,
} from './cernvm.ts';

/** What agents read; the documented limit of EC2 and of CernVM. */
const MAX_USER_DATA_BYTES = 16 * 1024;

export const PART_TYPES = ['cloud-config', 'x-shellscript', 'ucernvm', 'amiconfig'] as const;
export type PartType = (typeof PART_TYPES)[number];

/** A piece of user-data of the site's own. */
export interface UserDataPart {
  /** The file that it came from, for messages. */
  name: string;
  type: PartType;
  text: string;
}

export interface UserDataRequest extends CernvmSettings {
  hostname: string;
  timeZone: string | undefined;
  /** The quickest kind of key that the image's SSH server knows. */
  keyType: KeyType;
  /** Of this start of the job; a word. */
  nonce: string;
  /** In the order in which they are to be taken. */
  siteParts: readonly UserDataPart[];
}

/** The message as text, with LF line ends.
 * @throws VmbatchError `node` (`user-data-too-large`, `user-data-invalid`) naming the part to blame. */
export function buildUserData(request: UserDataRequest): string {
  const { siteParts, nonce } = request;
  // Distinguishes this message's boundary from everything in it.
  const boundary = `vmbatch-${nonce}`;
  for (const part of siteParts) refuseInvalid(part, boundary);
  const site = (type: PartType) => siteParts.filter((part) => part.type === type);
  const texts = (type: PartType) => site(type).map(({ text }) => text);
  const nonceLine = `VMBATCH_NONCE=${shellQuote(nonce)}`;
  const parts = [
    mimePart('vmbatch.cfg', 'cloud-config', renderTemplate('user-data-cloud-config', request, 'yaml')),
    ...site('cloud-config').map(({ name, type, text }) => mimePart(name, type, text)),
    mimePart('vmbatch-handler', 'part-handler', renderTemplate('user-data-part-handler.py', {}, 'text')),
    // cloud-init runs scripts in the order of their names.
    ...site('x-shellscript').map(({ name, type, text }) => mimePart(name, type, text)),
    mimePart('50-vmbatch', 'x-shellscript', renderTemplate('user-data-start.sh', { nonceLine }, 'sh')),
    mimePart('ucernvm', 'ucernvm', `${ucernvmBlock(request, texts('ucernvm'))}\n`),
    mimePart('amiconfig', 'amiconfig', `${amiconfigText(request, texts('amiconfig'))}\n`),
  ];
  const head = `MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="${boundary}"\n\n`;
  const text = `${head}${parts.map((part) => `--${boundary}\n${part}\n`).join('')}--${boundary}--\n`;
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_USER_DATA_BYTES) throw tooLarge(bytes, siteParts);
  return text;
}

const MIME_TYPES: Readonly<Record<PartType | 'part-handler', string>> = {
  'part-handler': 'text/part-handler',
  'cloud-config': 'text/cloud-config',
  'x-shellscript': 'text/x-shellscript',
  ucernvm: 'text/ucernvm',
  amiconfig: 'text/amiconfig-user-data',
};

/** Headers and body. What amiconfig would misread, or is no ASCII, is encoded; the lines of base64 begin with
 * no bracket. */
function mimePart(name: string, type: keyof typeof MIME_TYPES, text: string): string {
  const isPlain =
    type === 'ucernvm' ||
    type === 'amiconfig' ||
    (!text.split('\n').some((line) => SECTION_LINE.test(line)) && /^[\n\t -~]*$/.test(text));
  const body = isPlain ? text : `${wrap(Buffer.from(text).toString('base64'))}\n`;
  return `Content-Type: ${MIME_TYPES[type]}; charset="utf-8"
MIME-Version: 1.0
Content-Transfer-Encoding: ${isPlain ? '7bit' : 'base64'}
Content-Disposition: attachment; filename="${name.replace(/[^A-Za-z0-9._-]/g, '_')}"

${body}`;
}

const wrap = (text: string) => text.replace(/(.{76})(?=.)/g, '$1\n');

/** What would make a part be taken for something else, or not at all; undefined: nothing. */
export function findPartProblem({ type, text }: UserDataPart): string | undefined {
  if (type === 'x-shellscript') return text.startsWith('#!') ? undefined : 'does not begin with #!';
  if (type === 'cloud-config')
    return text.startsWith('#cloud-config') ? undefined : 'does not begin with #cloud-config';
  return findCernvmProblem(type, text);
}

function refuseInvalid(part: UserDataPart, boundary: string): void {
  const problem = part.text.includes(`--${boundary}`)
    ? 'holds the boundary of the message'
    : findPartProblem(part);
  if (problem !== undefined) throw partInvalid(part, problem);
}

export function partInvalid({ name }: UserDataPart, problem: string): VmbatchError {
  return new VmbatchError({
    fault: 'node',
    code: 'user-data-invalid',
    message: `the site's user-data ${name} ${problem}`,
    hint: 'correct the template; docs/contextualisation.md says what each kind may hold',
  });
}

function tooLarge(bytes: number, siteParts: readonly UserDataPart[]): VmbatchError {
  const largest = [...siteParts].sort((a, b) => b.text.length - a.text.length)[0];
  const site = siteParts.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
  return new VmbatchError({
    fault: 'node',
    code: 'user-data-too-large',
    message: `the user-data of a guest would have ${bytes} bytes, allowed: ${MAX_USER_DATA_BYTES}; ${site} are the site's own${
      largest === undefined ? '' : `, most of them ${largest.name}`
    }`,
    hint: 'put long scripts onto the share or into the image and call them from the template',
  });
}
