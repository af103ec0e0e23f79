// Files that root believes: whoever can change them, or put others in their place, is as good as root.
import { lstatSync, readlinkSync, type Stats } from 'node:fs';
import { dirname, join } from 'node:path';

/** More links than anybody lays one after the other. */
const MAX_LINKS = 40;

/** Who besides root can change what is found at a path: the file, a directory that leads to it, or a link on
 * the way.
 * @returns what is wrong, naming the place; undefined: nobody, or something on the way is not there */
export function writableByOthers(path: string): string | undefined {
  let links = 0;
  // What is still to be gone through, and where we are.
  const rest = partsOf(path);
  let at = '/';
  for (;;) {
    const stats = lstatSync(at, { throwIfNoEntry: false });
    if (stats === undefined) return undefined;
    const problem = problemOf(at, stats);
    if (problem !== undefined) return problem;
    if (stats.isSymbolicLink()) {
      if (++links > MAX_LINKS) return `${at} is one of too many links`;
      const target = readlinkSync(at);
      rest.unshift(...partsOf(target));
      at = target.startsWith('/') ? '/' : dirname(at);
      continue;
    }
    const next = rest.shift();
    if (next === undefined) return undefined;
    at = join(at, next);
  }
}

const partsOf = (path: string) => path.split('/').filter((part) => part !== '' && part !== '.');

function problemOf(path: string, stats: Stats): string | undefined {
  if (stats.uid !== 0) return `${path} belongs to uid ${stats.uid}, must belong to root`;
  // The mode of a link means nothing. In a directory like /tmp nobody can replace what is root's.
  const isSticky = stats.isDirectory() && (stats.mode & 0o1000) !== 0;
  if (stats.isSymbolicLink() || isSticky || (stats.mode & 0o022) === 0) return undefined;
  return `${path} may be written to by others than root (mode ${(stats.mode & 0o7777).toString(8)})`;
}
