// Builds dist/: `vmbatch` (a small entry), one chunk a command, one chunk a library, and the files that ship
// with the program. A command then parses only the code that it uses, and no node_modules is needed.
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const LIBRARIES = ['commander', 'ejs', 'execa', 'fast-xml-parser', 'ssh2', 'tmp', 'winston', 'yaml'];

// Built beside and renamed, so that nobody ever starts half a program.
const out = join(root, `dist.${process.pid}.tmp`);
rmSync(out, { recursive: true, force: true });
mkdirSync(out);

const common = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  logLevel: 'warning',
  legalComments: 'none',
  // `import()` of a chunk becomes `require`: the ES module loader alone costs more than a small command.
  supported: { 'dynamic-import': false },
  define: { 'import.meta.dirname': '__dirname', VMBATCH_VERSION: JSON.stringify(version) },
};

/** Sends imports of libraries, and the entry's imports of commands, to the chunks that hold them. */
const chunks = (toLib) => ({
  name: 'chunks',
  setup(builder) {
    const library = new RegExp(`^(${LIBRARIES.join('|')})$`);
    builder.onResolve({ filter: library }, ({ path }) => ({
      path: `${toLib}vendor/${path}.cjs`,
      external: true,
    }));
    builder.onResolve({ filter: /^\.\/(commands|util)\/[a-z-]+\.ts$/ }, ({ path, kind }) =>
      kind === 'dynamic-import'
        ? { path: `${toLib}${path.split('/').at(-1).replace('.ts', '.cjs')}`, external: true }
        : undefined,
    );
  },
});

/** Libraries as `require` sees them: a default import from outside means all of `module.exports`. */
const vendorEntries = {
  name: 'vendor-entries',
  setup(builder) {
    builder.onResolve({ filter: /^vendor:/ }, ({ path }) => ({ path: path.slice(7), namespace: 'vendor' }));
    builder.onLoad({ filter: /.*/, namespace: 'vendor' }, ({ path }) => ({
      contents: `module.exports = require(${JSON.stringify(path)});`,
      resolveDir: root,
    }));
  },
};

const commands = readdirSync(join(root, 'src/commands')).filter((name) => name.endsWith('.ts'));
await Promise.all([
  build({
    ...common,
    entryPoints: { vmbatch: 'src/cli.ts' },
    outdir: out,
    outExtension: { '.js': '.cjs' },
    sourcemap: 'external',
    minifySyntax: true,
    banner: { js: '#!/usr/bin/env node' },
    plugins: [chunks('./lib/')],
  }),
  build({
    ...common,
    entryPoints: [...commands.map((name) => `src/commands/${name}`), 'src/util/report.ts'],
    entryNames: '[name]',
    outdir: join(out, 'lib'),
    outExtension: { '.js': '.cjs' },
    sourcemap: 'external',
    // Less to read and parse; names stay as they are.
    minifySyntax: true,
    minifyWhitespace: true,
    plugins: [chunks('./')],
  }),
  build({
    ...common,
    entryPoints: Object.fromEntries(LIBRARIES.map((name) => [name, `vendor:${name}`])),
    outdir: join(out, 'lib/vendor'),
    outExtension: { '.js': '.cjs' },
    minify: true,
    plugins: [vendorEntries],
    // Their licences ask for their notices to come along.
    legalComments: 'linked',
    // ssh2's native parts are optional: it falls back to Node's own crypto.
    external: ['cpu-features', './crypto/build/Release/sshcrypto.node'],
  }),
]);
renameSync(join(out, 'vmbatch.cjs'), join(out, 'vmbatch'));
renameSync(join(out, 'vmbatch.cjs.map'), join(out, 'vmbatch.map'));
chmodSync(join(out, 'vmbatch'), 0o755);
// Whatever package dist/ is copied into: these files are CommonJS.
writeFileSync(join(out, 'package.json'), '{ "type": "commonjs" }\n');
for (const folder of ['templates', 'share', 'arc-backend'])
  cpSync(join(root, folder), join(out, folder), { recursive: true });
cpSync(join(root, 'LICENSE'), join(out, 'LICENSE'));

rmSync(join(root, 'dist'), { recursive: true, force: true });
renameSync(out, join(root, 'dist'));
