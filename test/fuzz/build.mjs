// Builds build/fuzz/: the fuzzer of `npm run fuzz`.
import { join } from 'node:path';
import { build } from 'esbuild';

await build({
  absWorkingDir: join(import.meta.dirname, '..', '..'),
  entryPoints: { fuzz: 'test/fuzz/main.ts' },
  outdir: 'build/fuzz',
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
