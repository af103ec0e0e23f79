// Builds build/site/: the demo and the one-node site that it runs on.
import { join } from 'node:path';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..', '..');

await build({
  absWorkingDir: root,
  entryPoints: {
    demo: 'test/demo/main.ts',
    site: 'test/site/main.ts',
    soak: 'test/soak/main.ts',
    'fake-virsh': 'test/site/fake-guest/virsh.ts',
  },
  outdir: 'build/site',
  outExtension: { '.js': '.cjs' },
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  sourcemap: 'inline',
  logLevel: 'warning',
  define: { 'import.meta.dirname': '__dirname', 'import.meta.url': 'moduleUrl' },
  banner: { js: 'const moduleUrl = require("node:url").pathToFileURL(__filename).href;' },
});
