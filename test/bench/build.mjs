// Builds build/bench/: the benchmarks of `npm run bench`.
import { join } from 'node:path';
import { build } from 'esbuild';
import { compileChunk } from '../../src/compile-chunk.mjs';

await build({
  absWorkingDir: join(import.meta.dirname, '..', '..'),
  entryPoints: {
    bench: 'test/bench/main.ts',
    'iso-first': 'test/bench/iso-first.ts',
    'iso-start': 'test/bench/iso-start.ts',
  },
  outdir: 'build/bench',
  outExtension: { '.js': '.cjs' },
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  sourcemap: 'inline',
  logLevel: 'warning',
  external: ['ssh2', 'cpu-features'],
  banner: { js: "const import_meta_url = require('node:url').pathToFileURL(__filename).href;" },
  define: { 'import.meta.url': 'import_meta_url', 'import.meta.dirname': '__dirname' },
});
compileChunk(join(import.meta.dirname, '../../build/bench/iso-first.cjs'));
