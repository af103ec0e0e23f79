// The ISO writer against isoinfo, xorriso, libarchive, 7-Zip, pycdlib, blkid and a strict reader of our own.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildIso, type IsoFile } from '../../../src/context/iso9660.ts';
import { VmbatchError } from '../../../src/util/errors.ts';
import { pathTableSectors, readIso } from './iso-reader.ts';

const OPTIONS = { volumeLabel: 'cidata', modified: new Date('2026-01-02T03:04:05Z') };
const LONG = `${'long-name.with.dots_'.repeat(3)}1234`;
const PYCDLIB = join(import.meta.dirname, '../../support/restore-iso.py');
const SEED = Number(process.env['VMBATCH_SEED'] ?? Date.now() % 0x7fff_ffff);

let directory = '';
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-iso-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function program(file: string, ...args: string[]): Buffer {
  // bsdtar and 7-Zip write names in the character set of the locale.
  const env = { ...process.env, LC_ALL: 'C.UTF-8' };
  return execFileSync(file, args, { maxBuffer: 1 << 26, stdio: ['ignore', 'pipe', 'pipe'], env });
}

function save(files: readonly IsoFile[], volumeLabel = OPTIONS.volumeLabel): string {
  const path = join(directory, 'test.iso');
  writeFileSync(path, buildIso(files, { ...OPTIONS, volumeLabel }));
  return path;
}

/** Bytes that differ everywhere, so that a shifted or cut file is noticed. */
function bytes(length: number): Buffer {
  const data = Buffer.alloc(length);
  for (let index = 0; index < length; index++) data[index] = (index * 31 + (index >> 8)) & 0xff;
  return data;
}

/** What a tree holds: path to a digest of the content, or to 'directory'. Digests, since the test runner
 * compares long buffers byte by byte. */
type Tree = Map<string, string>;

const digest = (data: Uint8Array) => `${data.length} ${createHash('sha256').update(data).digest('hex')}`;

/** Programs that restore an image to a directory. They share no code, and each believes other fields of the
 * format. */
const READERS = {
  'xorriso by Rock Ridge': (iso: string, to: string) =>
    program('xorriso', '-read_fs', 'any', '-osirrox', 'on', '-indev', iso, '-extract', '/', to),
  'xorriso by Joliet': (iso: string, to: string) =>
    program('xorriso', '-read_fs', 'norock', '-osirrox', 'on', '-indev', iso, '-extract', '/', to),
  'bsdtar by Rock Ridge': (iso: string, to: string) =>
    program('bsdtar', '--options', 'iso9660:!joliet', '-xf', iso, '-C', to),
  'bsdtar by Joliet': (iso: string, to: string) =>
    program('bsdtar', '--options', 'iso9660:!rockridge', '-xf', iso, '-C', to),
  '7-Zip': (iso: string, to: string) => program('7z', 'x', '-y', '-bd', `-o${to}`, iso),
  'pycdlib by Rock Ridge': (iso: string, to: string) =>
    program('/usr/bin/python3', PYCDLIB, 'rr_path', iso, to),
  'pycdlib by Joliet': (iso: string, to: string) =>
    program('/usr/bin/python3', PYCDLIB, 'joliet_path', iso, to),
} as const;
type Reader = keyof typeof READERS;
const readers = Object.keys(READERS) as Reader[];

/** 7-Zip takes a dot at the end of a name away, as ISO 9660 has one after each name. */
const readableBy = (reader: Reader, files: readonly IsoFile[]) =>
  reader === '7-Zip' ? files.filter(({ path }) => !/\.(\/|$)/.test(path)) : files;

/** What a reader restores to disk. */
function restored(iso: string, reader: Reader): Tree {
  const target = mkdtempSync(join(directory, 'restored-'));
  READERS[reader](iso, target);
  const found: Tree = new Map();
  for (const path of readdirSync(target, { recursive: true, encoding: 'utf8' })) {
    const isDirectory = lstatSync(join(target, path)).isDirectory();
    found.set(path, isDirectory ? 'directory' : digest(readFileSync(join(target, path))));
  }
  rmSync(target, { recursive: true });
  return found;
}

function expected(files: readonly IsoFile[]): Tree {
  const wanted: Tree = new Map();
  for (const { path, data } of files) {
    const parts = path.split('/');
    for (let depth = 1; depth < parts.length; depth++)
      wanted.set(parts.slice(0, depth).join('/'), 'directory');
    wanted.set(path, digest(Buffer.from(data)));
  }
  return wanted;
}

/** As one text, which is compared quickly. */
function show(tree: Tree): string {
  return [...tree]
    .map(([path, content]) => `${JSON.stringify(path)} ${content}`)
    .sort()
    .join('\n');
}

const CONTEXT: IsoFile[] = [
  { path: 'user-data', data: '#cloud-config\n' },
  { path: 'meta-data', data: 'instance-id: vmbatch-1\n' },
  { path: 'context.sh', data: bytes(2049), mode: 0o700 },
  { path: 'ec2/latest/user-data', data: bytes(2048) },
  { path: 'ec2/latest/meta-data.json', data: '{}' },
  { path: 'openstack/latest/user_data', data: bytes(2047) },
  { path: 'empty', data: '' },
  { path: 'one', data: bytes(1) },
  { path: 'large.bin', data: bytes(1 << 20), mode: 0o444 },
  { path: 'UPPER.TXT', data: 'upper' },
  { path: 'upper.txt', data: 'lower' },
  { path: '.hidden', data: 'hidden' },
  { path: 'trailing.', data: 'dot' },
  { path: 'a file, with blanks & signs (1)', data: 'signs' },
  { path: LONG, data: 'long' },
  { path: 'a/b/c/d/e/f/g/h/i/j/k/deep', data: 'deep' },
];

describe('buildIso', () => {
  it('writes files that isoinfo reads back byte for byte, by Rock Ridge and by Joliet names', () => {
    const iso = save(CONTEXT);
    for (const { path, data } of CONTEXT) {
      for (const nameSpace of ['-R', '-J']) {
        const found = program('isoinfo', nameSpace, '-i', iso, '-x', `/${path}`);
        expect(found.equals(Buffer.from(data)), `${nameSpace} ${path}`).toBe(true);
      }
    }
  });

  it.each(readers)('writes a tree that %s restores exactly, UTF-8 names included', (reader) => {
    const files = [
      ...readableBy(reader, CONTEXT),
      { path: 'größe/日本語.txt', data: 'names' },
      { path: 'é'.repeat(64), data: 'in the record or not' },
      { path: '日'.repeat(64), data: '192 bytes of name' },
      { path: `${'目'.repeat(64)}/${'本'.repeat(64)}`, data: '' },
    ];
    expect(show(restored(save(files), reader))).toBe(show(expected(files)));
  });

  it.each(readers)('writes a tree of which %s finds what does not fit into a directory record', (reader) => {
    const files = Array.from({ length: 150 }, (_, index) => ({
      path: `${'目'.repeat(60)}${index % 7}/${'名'.repeat(60)}${index}`,
      data: index % 5 === 0 ? '' : String(index),
    }));
    expect(show(restored(save(files), reader))).toBe(show(expected(files)));
  });

  it('gives files their mode, directories 0700, and everything to root', () => {
    const listing = program('isoinfo', '-R', '-l', '-i', save(CONTEXT)).toString();
    expect(listing).toMatch(/^-rwx------ +1 +0 +0 +2049 Jan +2 2026 .* context\.sh $/m);
    expect(listing).toMatch(/^-r--r--r-- +1 +0 +0 +1048576 .* large\.bin $/m);
    expect(listing).toMatch(/^-rw------- +1 +0 +0 +14 .* user-data $/m);
    expect(listing).toMatch(/^drwx------ +3 +0 +0 +2048 .* ec2 $/m);
  });

  it('writes descriptors that isoinfo, xorriso and blkid understand', () => {
    const iso = save(CONTEXT);
    const described = program('isoinfo', '-d', '-i', iso).toString();
    expect(described).toContain('Volume id: cidata\n');
    expect(described).toContain('Joliet with UCS level 3 found');
    expect(described).toContain('Rock Ridge signatures version 1 found');
    expect(program('blkid', '-p', '-o', 'export', iso).toString()).toMatch(
      /^LABEL=cidata\n(.*\n)*TYPE=iso9660$/m,
    );
    const checked = program('xorriso', '-indev', iso, '-check_media', '--').toString();
    expect(checked).toMatch(new RegExp(`Media region +: +0 , +${lstatSync(iso).size / 2048} , \\+ good`));
  });

  it('keeps a label of 32 characters, though Joliet has room for 16', () => {
    const label = 'Label-with.thirty_two-characters';
    expect(label).toHaveLength(32);
    const iso = save([], label);
    expect(program('isoinfo', '-d', '-i', iso).toString()).toContain(`Volume id: ${label}\n`);
    expect(program('blkid', '-p', '-s', 'LABEL', '-o', 'value', iso).toString()).toBe(`${label}\n`);
  });

  it('writes directories of many sectors with unique plain names', () => {
    const files = Array.from({ length: 1200 }, (_, index) => ({
      path: `many/the-same-beginning-${index}.json`,
      data: String(index),
    }));
    const image = buildIso(files, OPTIONS);
    const read = (nameSpace: 'rock-ridge' | 'joliet') =>
      new Map(readIso(image, nameSpace).map(({ path, data }) => [path, data.toString()]));
    const wanted = new Map<string, string>([
      ['many', ''],
      ...files.map(({ path, data }) => [path, data] as const),
    ]);
    expect(read('rock-ridge')).toEqual(wanted);
    expect(read('joliet')).toEqual(wanted);
    const plain = readIso(image, 'plain').map(({ path }) => path);
    expect(new Set(plain).size).toBe(1201);
    for (const path of plain) expect(path).toMatch(/^MANY(\/[A-Z0-9_]{1,8}\.[A-Z0-9_]{1,3};1)?$/);
    expect(plain.slice(1)).toEqual([...plain.slice(1)].sort());
  });

  it('lists every directory in both path tables', () => {
    const image = buildIso(CONTEXT, OPTIONS);
    const directories = readIso(image, 'joliet').filter(({ kind }) => kind === 'directory').length + 1;
    expect(new Set(pathTableSectors(image, 16)).size).toBe(directories);
    expect(new Set(pathTableSectors(image, 17)).size).toBe(directories);
  });

  it('gives the same bytes for the same files in any order', () => {
    const image = buildIso(CONTEXT, OPTIONS);
    expect(buildIso([...CONTEXT].reverse(), OPTIONS).equals(image)).toBe(true);
    expect(buildIso(CONTEXT, { ...OPTIONS, modified: new Date(0) }).equals(image)).toBe(false);
  });

  it('writes these very bytes for a small image', () => {
    const files = [
      { path: 'user-data', data: '#cloud-config\n' },
      { path: 'ec2/latest/meta-data.json', data: '{}\n', mode: 0o640 },
    ];
    expect(createHash('sha256').update(buildIso(files, OPTIONS)).digest('hex')).toBe(
      'eb65bf0d5b3a7d09dc9fc8fc0f811e53543fa01f661f20b61ec10e3e186c6328',
    );
  });

  const character = fc.oneof(
    { weight: 5, arbitrary: fc.constantFrom(...'abcXYZ019-_. ') },
    fc.constantFrom('é', 'ß', '日', '\ufffd', '~', '"', "'", '$'),
  );
  const name = fc
    .oneof(
      fc.string({ unit: character, minLength: 1, maxLength: 12 }),
      fc.string({ unit: character, minLength: 60, maxLength: 64 }),
    )
    .filter((text) => text !== '.' && text !== '..');
  const file = fc.record({
    path: fc.array(name, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/')),
    data: fc.oneof(fc.uint8Array({ maxLength: 64 }), fc.constantFrom(2047, 2048, 2049, 5000).map(bytes)),
    mode: fc.integer({ min: 0, max: 0o7777 }),
  });
  /** No path twice, and none that is the directory of another. */
  const files = fc
    .uniqueArray(file, { selector: ({ path }) => path, maxLength: 40 })
    .map((list) => list.filter(({ path }) => !list.some((other) => other.path.startsWith(`${path}/`))));

  it(`holds whatever files it is given (seed ${SEED})`, () => {
    fc.assert(
      fc.property(files, (list) => {
        const image = buildIso(list, OPTIONS);
        const wanted = expected(list);
        for (const nameSpace of ['rock-ridge', 'joliet'] as const) {
          const read = readIso(image, nameSpace);
          const found = new Map(
            read.map(({ path, kind, data }) => [path, kind === 'file' ? digest(data) : 'directory']),
          );
          expect(show(found)).toBe(show(wanted));
          expect(read).toHaveLength(wanted.size);
        }
        const modes = new Map(readIso(image, 'rock-ridge').map(({ path, mode }) => [path, mode]));
        expect(list.filter(({ path, mode }) => modes.get(path) !== (0o100000 | mode))).toEqual([]);
        const plain = readIso(image, 'plain').map(({ path }) => path);
        expect(new Set(plain).size).toBe(wanted.size);
        expect(pathTableSectors(image, 16)).toHaveLength(pathTableSectors(image, 17).length);
      }),
      { seed: SEED, numRuns: 150, interruptAfterTimeLimit: 2500 },
    );
  });

  it.each(readers)(`is restored by %s whatever files it holds (seed ${SEED})`, (reader) => {
    fc.assert(
      fc.property(files, (list) => {
        const readable = readableBy(reader, list);
        expect(show(restored(save(readable), reader))).toBe(show(expected(readable)));
      }),
      { seed: SEED, numRuns: 6, interruptAfterTimeLimit: 2500, endOnFailure: true },
    );
  });
});

describe('buildIso refuses', () => {
  const refused: [string, () => unknown, string][] = [
    [
      'an empty label',
      () => buildIso([], { ...OPTIONS, volumeLabel: '' }),
      'ISO image: volume label: found "", allowed: 1 to 32 of A-Z a-z 0-9 _ - .',
    ],
    [
      'a label with a line break',
      () => buildIso([], { ...OPTIONS, volumeLabel: 'cidata\n' }),
      'ISO image: volume label: found "cidata\\n", allowed: 1 to 32 of A-Z a-z 0-9 _ - .',
    ],
    [
      'a label of 33 characters',
      () => buildIso([], { ...OPTIONS, volumeLabel: 'x'.repeat(33) }),
      `ISO image: volume label: found "${'x'.repeat(33)}", allowed: 1 to 32 of A-Z a-z 0-9 _ - .`,
    ],
    [
      'an invalid time',
      () => buildIso([], { ...OPTIONS, modified: new Date(Number.NaN) }),
      'ISO image: modified: found year NaN, allowed: a valid time in the years 1900 to 2155',
    ],
    [
      'an absolute path',
      () => build('/etc/passwd'),
      'ISO image: path "/etc/passwd": found an empty name, allowed: names with one slash between them',
    ],
    [
      'an empty path',
      () => build(''),
      'ISO image: path "": found an empty name, allowed: names with one slash between them',
    ],
    [
      'a path that leaves the image',
      () => build('a/../../b'),
      'ISO image: path "a/../../b": found the name "..", allowed: names that stay in the image',
    ],
    [
      'a path with "."',
      () => build('./a'),
      'ISO image: path "./a": found the name ".", allowed: names that stay in the image',
    ],
    [
      'a NUL byte',
      () => build('a\0b'),
      'ISO image: path "a\\u0000b": found the character U+0000, allowed: characters up to U+FFFF without control characters and * / : ; ? \\',
    ],
    [
      'a character beyond 16 bits',
      () => build('😀'),
      'ISO image: path "😀": found the character U+1F600, allowed: characters up to U+FFFF without control characters and * / : ; ? \\',
    ],
    [
      'half a surrogate pair',
      () => build('\ud800'),
      'ISO image: path "\\ud800": found the character U+D800, allowed: characters up to U+FFFF without control characters and * / : ; ? \\',
    ],
    [
      'a name that is too long for Joliet',
      () => build('n'.repeat(65)),
      `ISO image: path "${'n'.repeat(65)}": found a name of 65 UTF-16 units, allowed: at most 64, the limit of Joliet`,
    ],
    ['a path given twice', () => build('a/b', 'a/b'), 'ISO image: path "a/b": is given twice'],
    ['a file below a file', () => build('a', 'a/b'), 'ISO image: path "a/b": "a" is a file'],
    ['a file where a directory is', () => build('a/b', 'a'), 'ISO image: path "a": is a directory'],
    [
      'a mode with a file type',
      () => buildIso([{ path: 'a', data: '', mode: 0o100644 }], OPTIONS),
      'ISO image: path "a": found mode 33188, allowed: 0 to 0o7777',
    ],
  ];

  it.each(refused)('%s', (_, build, message) => {
    let thrown: unknown;
    try {
      build();
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(VmbatchError);
    expect(thrown).toMatchObject({ fault: 'bug', code: 'iso-invalid', message });
  });
});

function build(...paths: string[]): Buffer {
  return buildIso(
    paths.map((path) => ({ path, data: '' })),
    OPTIONS,
  );
}
