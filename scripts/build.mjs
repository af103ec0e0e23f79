// Builds dist/: `vmbatch` (a small entry), one chunk a command, one chunk a library, and the files that ship
// with the program. A command then parses only the code that it uses, and no node_modules is needed.
// `node scripts/build.mjs [FOLDER]` builds into another folder.
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
import { basename, dirname, join, resolve } from 'node:path';
import { build } from 'esbuild';
import { helperInBundle } from './bundled-helper.mjs';
import { compileChunk } from './compile-chunk.mjs';
import { compileTemplate } from './compile-template.mjs';
import { billOfMaterials } from './sbom.mjs';

const root = join(import.meta.dirname, '..');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const LIBRARIES = ['commander', 'ejs', 'execa', 'ssh2', 'tmp', 'winston', 'yaml'];

// Built beside and renamed, so that nobody ever starts half a program.
const target = resolve(process.argv[2] ?? join(root, 'dist'));
const out = join(dirname(target), `dist.${process.pid}.tmp`);
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
  metafile: true,
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
    builder.onResolve({ filter: /^\.\/(commands|util)\/([a-z-]+\/)?[a-z-]+\.ts$/ }, ({ path, kind }) =>
      kind === 'dynamic-import'
        ? { path: `${toLib}${path.split('/').at(-1).replace('.ts', '.cjs')}`, external: true }
        : undefined,
    );
  },
});

/** Commands that A-REX and the moms start again and again; compiled beforehand, see
 * src/util/program/compiled-chunk.ts. */
const HOT_COMMANDS = ['cancel', 'epilogue', 'info', 'prologue', 'scan', 'submit'];
/** What they load. Not ssh2: it is the job starter's, whose memory counts more than its start. */
const HOT_LIBRARIES = ['execa', 'winston', 'yaml'];

/** Puts the loader of a compiled chunk in the place of the entry's imports of those commands. */
const compiledChunks = {
  name: 'compiled-chunks',
  setup(builder) {
    const hot = new RegExp(`^\\./commands/(?:[a-z]+/)?(${HOT_COMMANDS.join('|')})\\.ts$`);
    builder.onResolve({ filter: hot }, ({ path }) => ({
      path: path.split('/').at(-1).replace('.ts', '.cjs'),
      namespace: 'compiled',
    }));
    builder.onLoad({ filter: /.*/, namespace: 'compiled' }, ({ path }) => ({
      contents: `
        import { loadCompiledChunk } from './util/program/compiled-chunk.ts';
        export const { main } = loadCompiledChunk(__dirname + '/lib/${path}');
      `,
      resolveDir: join(root, 'src'),
    }));
  },
};

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

const SSH_WINDOW = 'const MAX_WINDOW = 2 * 1024 * 1024;';
/** What is not as in the registry, for the bill of materials. */
const CHANGES = {
  ssh2: 'lib/Channel.js: MAX_WINDOW is 16 MiB, or what VMBATCH_SSH_WINDOW in the environment says',
};

/** What a channel of ssh2 lets the other side send before it must wait: with its 2 MiB a job's output spends
 * a third of its time waiting (`npm run bench -- --only session`). There is no option for it. The job starter
 * has it smaller where TORQUE bounds our memory: what comes faster than it is taken waits in it. */
const sshWindow = {
  name: 'ssh-window',
  setup(builder) {
    builder.onLoad({ filter: /\/ssh2\/lib\/Channel\.js$/ }, ({ path }) => {
      const source = readFileSync(path, 'utf8');
      if (!source.includes(SSH_WINDOW)) throw new Error(`${path}: no "${SSH_WINDOW}" to be made larger`);
      const window = 'Number(process.env.VMBATCH_SSH_WINDOW) || 16 * 1024 * 1024';
      return { contents: source.replace(SSH_WINDOW, `const MAX_WINDOW = ${window};`) };
    });
  },
};

const templates = readdirSync(join(root, 'templates'))
  .filter((name) => name.endsWith('.ejs'))
  .map((name) => name.slice(0, -4));

/** Puts the compiled templates in the place of the module that compiles them: together they are smaller than
 * one more file costs.
 * @param wanted which of them */
const compiledTemplates = (wanted) => ({
  name: 'compiled-templates',
  setup(builder) {
    builder.onResolve({ filter: /\/template-source\.ts$/ }, () => ({ path: 'all', namespace: 'templates' }));
    builder.onLoad({ filter: /.*/, namespace: 'templates' }, () => ({
      contents: `
        const TEMPLATES = {${templates
          .filter(wanted)
          .map((name) => `'${name}': ${compileTemplate(join(root, `templates/${name}.ejs`))}`)
          .join(',\n')}};
        export const loadTemplate = (name) => Object.hasOwn(TEMPLATES, name) ? TEMPLATES[name] : undefined;
      `,
    }));
  },
});

/** Of the commands that are started most often, what they need and no more. Others get all. */
const TEMPLATES_OF = { submit: /^(batch-script|stage-zero)/ };

const buildCommands = (files, wanted) =>
  build({
    ...common,
    entryPoints: files.map((name) => join('src/commands', name)),
    entryNames: '[name]',
    outdir: join(out, 'lib'),
    outExtension: { '.js': '.cjs' },
    sourcemap: 'external',
    minify: true,
    plugins: [chunks('./'), compiledTemplates(wanted), helperInBundle],
  });

const commands = readdirSync(join(root, 'src/commands'), { recursive: true }).filter((name) =>
  name.endsWith('.ts'),
);
const results = await Promise.all([
  build({
    ...common,
    entryPoints: { vmbatch: 'src/cli.ts' },
    outdir: out,
    outExtension: { '.js': '.cjs' },
    sourcemap: 'external',
    // Less to read and parse. The source maps give the names back where there is a stack to show.
    minify: true,
    banner: { js: '#!/usr/bin/env node' },
    plugins: [compiledChunks, chunks('./lib/')],
  }),
  buildCommands(
    [
      ...commands.filter((name) => !Object.hasOwn(TEMPLATES_OF, basename(name, '.ts'))),
      '../util/program/report.ts',
    ],
    () => true,
  ),
  ...Object.entries(TEMPLATES_OF).map(([name, wanted]) =>
    buildCommands([`ce/${name}.ts`], (template) => wanted.test(template)),
  ),
  build({
    ...common,
    entryPoints: Object.fromEntries(LIBRARIES.map((name) => [name, `vendor:${name}`])),
    outdir: join(out, 'lib/vendor'),
    outExtension: { '.js': '.cjs' },
    minify: true,
    plugins: [sshWindow, vendorEntries],
    // Their licences ask for their notices to come along.
    legalComments: 'linked',
    // ssh2's native parts are optional: it falls back to Node's own crypto.
    external: ['cpu-features', './crypto/build/Release/sshcrypto.node'],
  }),
]);
renameSync(join(out, 'vmbatch.cjs'), join(out, 'vmbatch'));
renameSync(join(out, 'vmbatch.cjs.map'), join(out, 'vmbatch.map'));
chmodSync(join(out, 'vmbatch'), 0o755);
for (const name of [...HOT_COMMANDS, ...HOT_LIBRARIES.map((library) => `vendor/${library}`)])
  compileChunk(join(out, `lib/${name}.cjs`));
// Whatever package dist/ is copied into: these files are CommonJS.
writeFileSync(join(out, 'package.json'), '{ "type": "commonjs" }\n');
writeFileSync(join(out, 'sbom.json'), billOfMaterials(root, version, results, CHANGES));
for (const folder of ['share', 'arc-backend'])
  cpSync(join(root, folder), join(out, folder), { recursive: true });
cpSync(join(root, 'LICENSE'), join(out, 'LICENSE'));

rmSync(target, { recursive: true, force: true });
renameSync(out, target);
