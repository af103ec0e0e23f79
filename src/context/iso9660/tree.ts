// From a list of files to a checked, sorted tree with a unique 8.3 name for everything in it.
import { isoBug } from './problem.ts';

export interface IsoFile {
  /** Where the guest finds it, relative to the root of the disk: `ec2/latest/user-data`. */
  path: string;
  /** Text is written as UTF-8. */
  data: Uint8Array | string;
  /** Permission bits; default 0600. */
  mode?: number;
}

export interface FileNode {
  kind: 'file';
  name: string;
  /** Unique in its directory, `NAME.EXT`, without version. */
  shortName: string;
  mode: number;
  data: Uint8Array;
  /** Set when the image is laid out. */
  sector: number;
}

export interface DirectoryNode {
  kind: 'directory';
  name: string;
  shortName: string;
  /** The root is its own parent, as the format wants it. */
  parent: DirectoryNode;
  /** Sorted by exact name. */
  children: TreeNode[];
}

export type TreeNode = FileNode | DirectoryNode;

/** Joliet's limit, in UTF-16 units. At most three bytes of UTF-8 each, so Rock Ridge's 255 bytes, and the
 * 253 that Linux reads of them, are never reached. */
const MAX_NAME_UNITS = 64;
const MAX_LABEL = 32;
/** Path tables number directories with 16 bits. */
const MAX_DIRECTORIES = 0xffff;

/** @throws VmbatchError `bug` unless the label is 1 to 32 of `A-Z a-z 0-9 _ - .`. */
export function checkVolumeLabel(label: string): void {
  if (!/^[A-Za-z0-9_.-]+$/.test(label) || label.length > MAX_LABEL)
    throw isoBug(
      `volume label: found ${JSON.stringify(label)}, allowed: 1 to ${MAX_LABEL} of A-Z a-z 0-9 _ - .`,
    );
}

/** The tree of all files, children sorted, short names given.
 * @throws VmbatchError `bug` for paths that are not usable names, appear twice, or are both file and
 * directory. */
export function buildTree(files: readonly IsoFile[]): DirectoryNode {
  const root = makeDirectory('', undefined);
  const known = new Map<string, TreeNode>();
  for (const file of files) {
    const parts = file.path.split('/');
    const name = parts.pop() ?? '';
    let parent = root;
    let path = '';
    for (const part of parts) {
      checkName(part, file.path);
      path += `${part}/`;
      const found = known.get(path.slice(0, -1));
      if (found?.kind === 'file')
        throw isoBug(`path ${JSON.stringify(file.path)}: ${JSON.stringify(path.slice(0, -1))} is a file`);
      if (found !== undefined) parent = found;
      else {
        const made = makeDirectory(part, parent);
        parent.children.push(made);
        known.set(path.slice(0, -1), made);
        parent = made;
      }
    }
    checkName(name, file.path);
    const there = known.get(file.path);
    if (there !== undefined)
      throw isoBug(
        `path ${JSON.stringify(file.path)}: ${there.kind === 'file' ? 'is given twice' : 'is a directory'}`,
      );
    const mode = file.mode ?? 0o600;
    if (!Number.isInteger(mode) || mode < 0 || mode > 0o7777)
      throw isoBug(`path ${JSON.stringify(file.path)}: found mode ${mode}, allowed: 0 to 0o7777`);
    const data = typeof file.data === 'string' ? Buffer.from(file.data) : file.data;
    const node: FileNode = { kind: 'file', name, shortName: '', mode, data, sector: 0 };
    parent.children.push(node);
    known.set(file.path, node);
  }
  const directories = listDirectories(root);
  if (directories.length > MAX_DIRECTORIES)
    throw isoBug(`found ${directories.length} directories, allowed: at most ${MAX_DIRECTORIES}`);
  for (const directory of directories) {
    directory.children.sort((a, b) => (a.name < b.name ? -1 : 1));
    giveShortNames(directory.children);
  }
  return root;
}

/** All directories, root first, parents before children, level by level. */
export function listDirectories(root: DirectoryNode): DirectoryNode[] {
  const list = [root];
  // The list grows while it is walked.
  for (const directory of list)
    for (const child of directory.children) if (child.kind === 'directory') list.push(child);
  return list;
}

function makeDirectory(name: string, parent: DirectoryNode | undefined): DirectoryNode {
  const node = { kind: 'directory' as const, name, shortName: '', children: [] };
  if (parent !== undefined) return { ...node, parent };
  const root: Omit<DirectoryNode, 'parent'> & { parent?: DirectoryNode } = node;
  root.parent = root as DirectoryNode;
  return root as DirectoryNode;
}

function checkName(name: string, path: string): void {
  const refuse = (found: string, allowed: string) =>
    isoBug(`path ${JSON.stringify(path)}: found ${found}, allowed: ${allowed}`);
  if (name === '') throw refuse('an empty name', 'names with one slash between them');
  if (name === '.' || name === '..') throw refuse(`the name "${name}"`, 'names that stay in the image');
  if (name.length > MAX_NAME_UNITS)
    throw refuse(`a name of ${name.length} UTF-16 units`, `at most ${MAX_NAME_UNITS}, the limit of Joliet`);
  // Almost every name; looking at each character costs more than all else here.
  if (/^[A-Za-z0-9._ -]*$/.test(name)) return;
  for (const character of name) {
    const code = character.codePointAt(0) ?? 0;
    const isSurrogate = code >= 0xd800 && code <= 0xdfff;
    // Joliet forbids these and knows 16-bit characters only; replacing them would make names inexact.
    if (code < 0x20 || code === 0x7f || code > 0xffff || isSurrogate || '*/:;?\\'.includes(character))
      throw refuse(
        `the character U+${code.toString(16).toUpperCase().padStart(4, '0')}`,
        'characters up to U+FFFF without control characters and * / : ; ? \\',
      );
  }
}

/** Level 1 of ISO 9660: eight and three of `A-Z 0-9 _`, directories without extension. The standard wants
 * them unique; Linux never shows them. */
function giveShortNames(children: readonly TreeNode[]): void {
  const used = new Set<string>();
  // Where to go on counting for each wish, so that many alike names stay linear.
  const counters = new Map<string, number>();
  for (const child of children) {
    const { stem, extension } = splitName(child);
    const wish = `${stem}${extension}`;
    let name = wish;
    for (let count = counters.get(wish) ?? 0; used.has(name); counters.set(wish, count)) {
      const digits = String(count++);
      name = `${stem.slice(0, 8 - digits.length)}${digits}${extension}`;
    }
    used.add(name);
    child.shortName = name;
  }
}

function splitName(node: TreeNode): { stem: string; extension: string } {
  const legal = (text: string) => text.toUpperCase().replace(/[^A-Z0-9_]/g, '_');
  const dot = node.kind === 'file' ? node.name.lastIndexOf('.') : -1;
  if (dot <= 0 || dot === node.name.length - 1) return { stem: legal(node.name).slice(0, 8), extension: '' };
  return {
    stem: legal(node.name.slice(0, dot)).slice(0, 8),
    extension: `.${legal(node.name.slice(dot + 1)).slice(0, 3)}`,
  };
}
