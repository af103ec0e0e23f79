// How the programs of the tests are bundled: one file each, for Node, beside each other below build/.
import { join } from 'node:path';
import { build } from 'esbuild';
import { helperInBundle } from '../../scripts/bundled-helper.mjs';

/** @param {string} folder below build/
 * @param {Record<string, string>} entryPoints files of the project by the names of their bundles
 * @param {import('esbuild').BuildOptions} options what differs */
export function bundle(folder, entryPoints, options = {}) {
  return build({
    absWorkingDir: join(import.meta.dirname, '..', '..'),
    entryPoints,
    outdir: `build/${folder}`,
    outExtension: { '.js': '.cjs' },
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    sourcemap: 'inline',
    logLevel: 'warning',
    banner: { js: "const import_meta_url = require('node:url').pathToFileURL(__filename).href;" },
    define: { 'import.meta.url': 'import_meta_url', 'import.meta.dirname': '__dirname' },
    plugins: [helperInBundle],
    ...options,
  });
}

/** For programs that have the library beside them in node_modules: ssh2 brings parts that cannot be
 * bundled. */
export const WITHOUT_SSH2 = { external: ['ssh2', 'cpu-features'] };
