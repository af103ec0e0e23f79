// What a hint tells people to type works: each command in one is run, or at least understood by the program
// that it names.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { commandLine } from '../../../src/util/quote.ts';
import { literalsIn, SAMPLE } from '../../support/literals.ts';

const project = new URL('../../..', import.meta.url).pathname;
const vmbatch = join(project, 'dist/vmbatch');
const folder = mkdtempSync(join(tmpdir(), 'vmbatch-hints-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What stands before a text that somebody is to read as advice. */
const ADVICE = /\b(hint|advice|advised|failed|warning|refuse|failure|findings)\b(?:(?!;\n)[\s\S])*$/;
/** A command begins with a program and what only a command has after it. */
const COMMAND = new RegExp(
  `(?<![\\w/.-])(${[
    'mkdir -\\S+',
    'chmod [0-9a-z]*[+-]?[0-9a-z]+',
    'chown \\w+:\\w+',
    'ln -\\w+',
    'qmgr -c',
    'virsh -c \\S+ [a-z-]+',
    'virsh [a-z]+-[a-z]+',
    'ip link',
    'qemu-img [a-z]+ -\\S+',
    'arcctl (?:service|rte) [a-z]+',
    'apt-get install',
    'vmbatch (?:hooks|image|node|reap|check|release|console|ssh)(?: [a-z][a-z-]+)?',
  ].join('|')})(?: [^;,()\\n]*)?(?!\\w|:)`,
  'g',
);
/** Words of a sentence that goes on after a command. */
const SENTENCE = / (?:makes|reads|removes|again|says|puts|brings|which|what|if|and then)\b.*$/;

interface Found {
  file: string;
  command: string;
}

function commands(): Found[] {
  const files = readdirSync(join(project, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  return files.flatMap((file) => {
    const source = readFileSync(join(project, 'src', file), 'utf8');
    return (
      literalsIn(source)
        .filter(({ at }) => ADVICE.test(source.slice(Math.max(0, at - 600), at)))
        .flatMap(({ text }) => [...text.matchAll(COMMAND)])
        .flatMap(([text]) => text.split(' && '))
        .map((text) => ({ file, command: text.replace(SENTENCE, '').replace(/(?:['`.]|: .*)?$/, '') }))
        // Which one it is, is decided in another text.
        .filter(({ command }) => !command.startsWith(`arcctl rte ${SAMPLE}`))
    );
  });
}

const found = commands();
const run = (command: string) => spawnSync('/bin/sh', ['-c', command], { cwd: folder, encoding: 'utf8' });
/** The same command for a file of ours. */
const here = (command: string, path: string) => command.replaceAll(SAMPLE, path);

/** How each program shows that it understands; what is not here is parsed by a shell alone. */
const UNDERSTANDS: Readonly<Record<string, (command: string, words: string[]) => void>> = {
  mkdir(command) {
    const path = join(folder, 'new/and newer/newest');
    const { status, stderr } = run(here(command, commandLine(path)));
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(statSync(path).mode & 0o7777).toBe(0o1777);
  },
  chmod: onFile,
  chown: onFile,
  'qemu-img'(command) {
    execFileSync('qemu-img', ['create', '-q', '-f', 'raw', join(folder, 'image'), '1M']);
    expect(run(here(command, 'image'))).toMatchObject({ status: 0, stderr: '' });
  },
  virsh(_command, words) {
    const at = words.indexOf('-c');
    const name = words[at === -1 ? 1 : at + 2] ?? '';
    expect(run(commandLine('virsh', 'help', name))).toMatchObject({ status: 0 });
  },
  vmbatch(_command, words) {
    const [, name = '', what] = words;
    const { status, stdout } = spawnSync(vmbatch, [name, '--help'], { encoding: 'utf8' });
    expect(status).toBe(0);
    if (['hooks', 'image', 'node', 'check'].includes(name) && what !== '--help')
      expect(stdout).toMatch(new RegExp(`\\b${what}\\b`));
    for (const option of words.filter((word) => word.startsWith('--') && word !== '--help')) {
      const help = spawnSync(vmbatch, [name, what ?? '', '--help'], { encoding: 'utf8' }).stdout;
      expect(help).toContain(option);
    }
  },
  arcctl(_command, words) {
    const { status, stdout } = spawnSync('arcctl', [words[1] ?? '', words[2] ?? '', '--help'], {
      encoding: 'utf8',
    });
    expect(status).toBe(0);
    for (const option of words.filter((word) => word.startsWith('--'))) expect(stdout).toContain(option);
  },
};

function onFile(command: string): void {
  writeFileSync(join(folder, 'file'), '', { mode: 0o666 });
  expect(run(here(command, 'file'))).toMatchObject({ status: 0, stderr: '' });
}

describe('commands in hints', () => {
  it('are found', () => {
    expect(found.length).toBeGreaterThan(20);
    for (const program of ['mkdir', 'chmod', 'virsh', 'ip', 'qmgr', 'vmbatch', 'qemu-img', 'arcctl'])
      expect(
        found.filter(({ command }) => command.startsWith(`${program} `)),
        program,
      ).not.toEqual([]);
  });

  it('name what they are about, and leave no word for the reader to fill in', () => {
    expect(found.filter(({ command }) => /(?<![\w/$-])[A-Z]{3,}(?![\w/])/.test(command))).toEqual([]);
  });

  it.each(found.map(({ file, command }) => [command, file]))('%s (%s)', (command) => {
    expect(spawnSync('/bin/sh', ['-n', '-c', command], { encoding: 'utf8' })).toMatchObject({
      status: 0,
      stderr: '',
    });
    const words = command.split(' ');
    UNDERSTANDS[words[0] ?? '']?.(command, words);
  });
});
