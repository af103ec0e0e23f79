// Builds build/kill-matrix/: the matrix of `npm run kill-matrix`, and the process that is struck in it.
import { join } from 'node:path';
import { build } from 'esbuild';
import { compileChunk } from '../../src/compile-chunk.mjs';

const common = {
  absWorkingDir: join(import.meta.dirname, '..', '..'),
  outdir: 'build/kill-matrix',
  outExtension: { '.js': '.cjs' },
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  logLevel: 'warning',
  external: ['ssh2', 'cpu-features'],
  banner: { js: "const import_meta_url = require('node:url').pathToFileURL(__filename).href;" },
  define: { 'import.meta.url': 'import_meta_url', 'import.meta.dirname': '__dirname' },
};
await build({
  ...common,
  entryPoints: { 'kill-matrix': 'test/kill-matrix/main.ts', actor: 'test/kill-matrix/actor.ts' },
  sourcemap: 'inline',
});
// It is started hundreds of times.
await build({ ...common, entryPoints: { struck: 'test/kill-matrix/struck.ts' }, minify: true });
compileChunk(join(import.meta.dirname, '../../build/kill-matrix/struck.cjs'));
