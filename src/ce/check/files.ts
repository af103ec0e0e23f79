// arc.conf as A-REX reads it. ARC 7 adds the files of arc.conf.d to it, ARC 6 does not; a problem is named by
// the file and line that its admin wrote.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

export interface ConfigurationFiles {
  /** All of it, bytes as latin1. */
  text: string;
  /** `FILE:LINE` of a line of `text`, from 1. */
  where: (line: number) => string;
  /** What was added to the file, in ARC's order. */
  added: string[];
}

/** Options in front of the first block of a file belong to none, and not to the last block of the file
 * before. */
const BETWEEN = '[custom:between-two-files]';

/** @throws a system error if the file itself cannot be read */
export function readConfigurationFiles(file: string, withAdditions: boolean): ConfigurationFiles {
  const added = withAdditions ? additionsOf(`${file}.d`) : [];
  const starts: { file: string; first: number }[] = [];
  let lines: string[] = [];
  for (const path of [file, ...added]) {
    const text = readFileSync(path, 'latin1');
    if (path !== file) lines.push(BETWEEN);
    starts.push({ file: path, first: lines.length });
    lines = lines.concat(text.split('\n'));
  }
  const where = (line: number) => {
    const start = starts.findLast(({ first }) => first < line);
    return `${start?.file ?? file}:${line - (start?.first ?? 0)}`;
  };
  return { text: lines.join('\n'), where, added };
}

/** `*.conf` below a folder: those of each folder by name, before those of the folders in it, as ARC 7 takes
 * them. */
export function additionsOf(folder: string): string[] {
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder).sort();
  const isFolder = (name: string) => statSync(join(folder, name), { throwIfNoEntry: false })?.isDirectory();
  return [
    ...names.filter((name) => name.endsWith('.conf') && !isFolder(name)),
    ...names.filter(isFolder),
  ].flatMap((name) => (isFolder(name) ? additionsOf(join(folder, name)) : [join(folder, name)]));
}
