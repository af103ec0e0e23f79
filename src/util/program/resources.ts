// Finding the files that ship with the program: templates and what goes into guests.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { VmbatchError } from '../errors.ts';

const HERE = import.meta.dirname;
// What holds the resources: for the source, the checkout; for a bundle in dist/lib, dist; for those of the
// tests in build/NAME, the checkout.
const ROOTS = (HERE.endsWith('/src/util/program') ? ['../../..'] : ['..', '../..']).map((up) =>
  join(HERE, up),
);

/** The absolute path of a shipped file or folder, such as `templates/domain.xml.ejs`; undefined if it is not
 * there. */
export function findResource(relative: string): string | undefined {
  return ROOTS.map((root) => join(root, relative)).find((path) => existsSync(path));
}

/** The same of what must be there.
 * @throws VmbatchError `node` if the installation is incomplete. */
export function resourcePath(relative: string): string {
  const path = findResource(relative);
  if (path !== undefined) return path;
  throw new VmbatchError({
    fault: 'node',
    code: 'installation-incomplete',
    message: `the installation lacks ${relative} (looked below ${ROOTS.join(' and ')})`,
    hint: 'copy the dist folder as a whole',
  });
}
