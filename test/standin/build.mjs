// Builds the stand-in into build/standin: one small CommonJS file for each client, since those start often.
import { chmodSync, copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { build } from 'esbuild';

const here = new URL('.', import.meta.url).pathname;
const out = new URL('../../build/standin/', import.meta.url).pathname;

const entries = {
  qsub: 'client/qsub.ts',
  qstat: 'client/qstat.ts',
  qdel: 'client/qdel.ts',
  qsig: 'client/job-request.ts',
  qhold: 'client/job-request.ts',
  qrls: 'client/job-request.ts',
  pbsnodes: 'client/pbsnodes.ts',
  qmgr: 'client/qmgr.ts',
  'torque-standin': 'torque-standin.ts',
};

rmSync(out, { recursive: true, force: true });
for (const name of ['bin', 'sbin', 'lib']) mkdirSync(`${out}${name}`, { recursive: true });
await build({
  entryPoints: Object.entries(entries).map(([name, path]) => ({ in: `${here}${path}`, out: name })),
  outdir: `${out}lib`,
  outExtension: { '.js': '.cjs' },
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  minifySyntax: true,
  minifyWhitespace: true,
  logLevel: 'warning',
});
copyFileSync(`${here}mom/launcher.pl`, `${out}lib/launcher.pl`);

// The commands below have no extension: without this they would be taken for ES modules.
writeFileSync(`${out}package.json`, '{ "type": "commonjs" }\n');

// These work with TORQUE_STANDIN_HOME set; 'torque-standin install' makes commands that know their site
// directory.
for (const name of Object.keys(entries)) {
  const path = `${out}${name === 'torque-standin' ? 'sbin' : 'bin'}/${name}`;
  writeFileSync(
    path,
    `#!/usr/bin/env node\nprocess.argv[1] = require.resolve('../lib/${name}.cjs');\nrequire('../lib/${name}.cjs');\n`,
  );
  chmodSync(path, 0o755);
}
