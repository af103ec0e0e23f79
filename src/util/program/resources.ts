// Finding the files that ship with the program: templates and what goes into guests.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { VmbatchError } from '../errors.ts';

// A bundle stands in dist/lib, those of the tests in build/NAME, a source file in src/util/program: one, two
// and three levels below what holds the resources.
const ROOTS = ['..', '../..', '../../..'].map((up) => join(import.meta.dirname, up));

/** The absolute path of a shipped file or folder, such as `templates/domain.xml.ejs`.
 * @throws VmbatchError `node` if the installation is incomplete. */
export function resourcePath(relative: string): string {
  for (const root of ROOTS) {
    const path = join(root, relative);
    if (existsSync(path)) return path;
  }
  throw new VmbatchError({
    fault: 'node',
    code: 'installation-incomplete',
    message: `the installation lacks ${relative} (looked below ${ROOTS.join(' and ')})`,
    hint: 'copy the dist folder as a whole',
  });
}
