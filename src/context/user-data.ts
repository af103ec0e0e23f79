// The user-data of a guest: one MIME message that cloud-init, the boot loader of µCernVM and CernVM's amiconfig each take
// their part of. None of the three knows of the others, so the order and the form of the parts matter:
//
// - cloud-init splits the message properly and takes the parts that it knows the type of.
// - µCernVM's boot loader reads lines between [ucernvm-begin] and [ucernvm-end], wherever they stand, and sources them as sh.
// - amiconfig drops everything before the first line that begins with a [section]; from there on it takes every line that looks
//   like an option (`name: value`, `name = value`), MIME headers and boundaries too. So its part is the last, the one of µCernVM
//   (whose marks are sections to it) the last but one, and the boundary has neither a colon nor an equals sign.
import { VmbatchError } from '../util/errors.ts';
import { renderTemplate } from '../util/template.ts';

/** What agents read; the documented limit of EC2 and of CernVM. */
export const MAX_USER_DATA_BYTES = 16 * 1024;

export const PART_TYPES = ['cloud-config', 'x-shellscript', 'ucernvm', 'amiconfig'] as const;
export type PartType = (typeof PART_TYPES)[number];

/** A piece of user-data of the site's own. */
export interface UserDataPart {
  /** The file that it came from, for messages. */
  name: string;
  type: PartType;
  text: string;
}

export interface UserDataRequest {
  hostname: string;
  timeZone: string | undefined;
  /** Distinguishes this message's boundary from everything in it. */
  boundary: string;
  repositories: readonly string[];
  cvmfs: {
    proxy: string | undefined;
    server: string | undefined;
    tag: string | undefined;
    organisation: string | undefined;
  };
  /** In the order in which they are to be taken. */
  siteParts: readonly UserDataPart[];
}

/** What amiconfig takes for the beginning of its own. */
const SECTION = /^\[[^\]]+\]/m;

/** The message as text, with LF line ends.
 * @throws VmbatchError `node` (`user-data-too-large`, `user-data-invalid`) naming the part to blame. */
export function buildUserData(request: UserDataRequest): string {
  const { cvmfs, siteParts } = request;
  const own = (type: PartType) =>
    siteParts.filter((part) => part.type === type).map(({ text }) => text.trimEnd());
  for (const part of siteParts) refuseInvalid(part, request.boundary);
  const values = { ...request, ...cvmfs };
  const parts: string[] = [
    // cloud-init lets the first part that says something win, so the site's come before ours.
    ...siteParts.filter(({ type }) => type === 'cloud-config').map(mimePart),
    mimePart({
      name: 'vmbatch.cfg',
      type: 'cloud-config',
      text: renderTemplate('user-data-cloud-config', values, 'yaml'),
    }),
    ...siteParts.filter(({ type }) => type === 'x-shellscript').map(mimePart),
    mimePart({
      name: 'vmbatch-start',
      type: 'x-shellscript',
      text: renderTemplate('user-data-start.sh', {}, 'sh'),
    }),
    mimePart({
      name: 'ucernvm',
      type: 'ucernvm',
      text: renderTemplate('user-data-ucernvm', { ...values, siteParts: own('ucernvm') }, 'line'),
    }),
    mimePart({
      name: 'amiconfig',
      type: 'amiconfig',
      text: renderTemplate('user-data-amiconfig', { ...values, siteParts: own('amiconfig') }, 'line'),
    }),
  ];
  const head = `MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="${request.boundary}"\n\n`;
  const text = `${head}${parts.map((part) => `--${request.boundary}\n${part}\n`).join('')}--${request.boundary}--\n`;
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_USER_DATA_BYTES) throw tooLarge(bytes, siteParts);
  return text;
}

const MIME_TYPES: Readonly<Record<PartType, string>> = {
  'cloud-config': 'text/cloud-config',
  'x-shellscript': 'text/x-shellscript',
  ucernvm: 'text/ucernvm',
  amiconfig: 'text/amiconfig-user-data',
};

/** Headers and body. What amiconfig would misread, or is no ASCII, is encoded; the lines of base64 begin with no bracket. */
function mimePart({ name, type, text }: UserDataPart): string {
  const isPlain =
    type === 'ucernvm' || type === 'amiconfig' || (!SECTION.test(text) && /^[\n\t -~]*$/.test(text));
  const body = isPlain ? text : `${wrap(Buffer.from(text).toString('base64'))}\n`;
  return `Content-Type: ${MIME_TYPES[type]}; charset="utf-8"
MIME-Version: 1.0
Content-Transfer-Encoding: ${isPlain ? '7bit' : 'base64'}
Content-Disposition: attachment; filename="${name.replace(/[^A-Za-z0-9._-]/g, '_')}"

${body}`;
}

const wrap = (text: string) => text.replace(/(.{76})(?=.)/g, '$1\n');

/** A part that would leave its place in the message, or be taken for something else. */
function refuseInvalid({ name, type, text }: UserDataPart, boundary: string): void {
  const problem = text.includes(`--${boundary}`)
    ? 'holds the boundary of the message'
    : type === 'x-shellscript' && !text.startsWith('#!')
      ? 'does not begin with #!'
      : type === 'cloud-config' && !text.startsWith('#cloud-config')
        ? 'does not begin with #cloud-config'
        : (type === 'ucernvm' || type === 'amiconfig') && !/^[\n\t -~]*$/.test(text)
          ? 'holds characters that are not printable ASCII'
          : type === 'ucernvm' && SECTION.test(text)
            ? 'holds a line that begins with a bracket; only name=value lines are allowed'
            : type === 'amiconfig' && !SECTION.test(text.slice(0, text.indexOf('\n') + 1 || undefined))
              ? 'does not begin with a [section]'
              : undefined;
  if (problem === undefined) return;
  throw new VmbatchError({
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
