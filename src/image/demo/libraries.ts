// Which shared libraries a set of programs needs, found in an unpacked tree of packages.
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import { VmbatchError } from '../../util/errors.ts';
import { readLinks } from './elf.ts';

/** Where Debian's packages keep libraries, both before and after the merge of /lib into /usr/lib. */
const LIBRARY_DIRECTORIES = ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu', 'usr/lib', 'lib', 'lib64'];

/** All libraries that `programs` need, directly or through each other, and their interpreter.
 * @param tree where packages were unpacked.
 * @param programs paths relative to it.
 * @returns name as asked for (`libz.so.1`) → the file that holds it.
 * @throws VmbatchError `node` naming the library that no package brought, and who needs it. */
export function findLibraries(tree: string, programs: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  const add = (name: string, neededBy: string): void => {
    if (found.has(name)) return;
    const path = LIBRARY_DIRECTORIES.map((directory) => join(tree, directory, name)).find(existsSync);
    if (path === undefined) {
      throw new VmbatchError({
        fault: 'node',
        code: 'library-missing',
        message: `${neededBy} needs ${name}, which none of the image's packages has`,
        hint: 'the list of packages in src/image/demo/packages.ts lacks the one that has it',
      });
    }
    found.set(name, realpathSync(path));
    visit(path, name);
  };
  const visit = (path: string, name: string): void => {
    const { needed, interpreter } = readLinks(readFileSync(path), path);
    for (const library of needed) add(library, name);
    if (interpreter !== undefined) add(basename(interpreter), name);
  };
  for (const program of programs) visit(join(tree, program), program);
  return found;
}
