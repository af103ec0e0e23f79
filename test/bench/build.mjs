// Builds build/bench/: the benchmarks of `npm run bench`.
import { join } from 'node:path';
import { build } from 'esbuild';

await build({
  absWorkingDir: join(import.meta.dirname, '..', '..'),
  entryPoints: { bench: 'test/bench/main.ts' },
  outdir: 'build/bench',
  outExtension: { '.js': '.cjs' },
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  sourcemap: 'inline',
  logLevel: 'warning',
  define: { 'import.meta.dirname': '__dirname' },
});
