// Changes to the catalogue of images in the node file: whatever else stands in the file, comments too, stays
// as it is.
import { readFileSync, realpathSync, statSync } from 'node:fs';
import { type Document, isMap, parseDocument, type YAMLMap } from 'yaml';
import { parseNodeConfig } from '../../node-file/read.ts';
import { VmbatchError } from '../../util/errors.ts';
import { writeFileAtomic } from '../../util/files/files.ts';

/** The keys of one image as they stand in the node file. */
export type ImageEntry = Record<string, unknown>;

function refuse(message: string, hint?: string): VmbatchError {
  return new VmbatchError({ fault: 'node', code: 'usage', message, hint });
}

/** The text of a node file with one more image. The result is a valid node file.
 * @throws VmbatchError `node`: `usage` if the name is taken, `config-invalid` for values that are not
 * allowed */
export function withImage(text: string, fileName: string, name: string, entry: ImageEntry): string {
  const document = parseDocument(text);
  const images = imagesOf(document.get('images'));
  if (images?.has(name) === true)
    throw refuse(`image ${name} stands in ${fileName} already`, 'remove it first, or edit the file');
  // With one image alone the node file need not say which is the default.
  const only = images?.items.length === 1 ? images.items[0]?.key : undefined;
  if (only !== undefined && !document.has('default_image')) document.set('default_image', String(only));
  if (images === undefined) document.set('images', document.createNode({ [name]: entry }));
  else images.set(name, document.createNode(entry));
  return checked(write(document, text), fileName);
}

/** The text of a node file without an image, and what it was. */
export function withoutImage(text: string, fileName: string, name: string): string {
  const document = parseDocument(text);
  const images = imagesOf(document.get('images'));
  if (images === undefined || !images.has(name)) throw refuse(`there is no image ${name} in ${fileName}`);
  if (images.items.length === 1)
    throw refuse(`image ${name} is the only one of ${fileName}: a node needs one`, 'add another first');
  if (document.get('default_image') === name)
    throw refuse(`image ${name} is the default_image of ${fileName}`, 'choose another default first');
  images.delete(name);
  return checked(write(document, text), fileName);
}

/** Reads the node file, lets `change` make another text of it, and puts that in its place, whole or not at
 * all. A link is followed: sites keep the file on a share. */
export async function editNodeFile(
  path: string,
  change: (text: string) => string | Promise<string>,
): Promise<void> {
  const target = realpathSync(path);
  const before = readFileSync(target, 'utf8');
  const after = await change(before);
  const { mode, uid, gid } = statSync(target);
  if (readFileSync(target, 'utf8') !== before)
    throw refuse(`${path} was changed by somebody else meanwhile`, 'try again');
  writeFileAtomic(target, after, mode & 0o777, { uid, gid });
}

function imagesOf(node: unknown): YAMLMap | undefined {
  return isMap(node) ? node : undefined;
}

/** As it was written, as far as the library can be told. */
function write(document: Document, before: string): string {
  const isTight = /[[{][^\s\]}#]/.test(before);
  return document.toString({ lineWidth: 0, flowCollectionPadding: !isTight });
}

function checked(text: string, fileName: string): string {
  parseNodeConfig(text, fileName);
  return text;
}
