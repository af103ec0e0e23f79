// The helper of src/util/accounts/as-user as text: one for the build, the bundles of the tests, and the
// program that is run from its source.
import { join } from 'node:path';
import { build } from 'esbuild';

/** @returns {Promise<string>} the helper's source, for `node -e` */
export async function bundledHelper() {
  const { outputFiles } = await build({
    entryPoints: [join(import.meta.dirname, '../src/util/accounts/as-user/helper.ts')],
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    write: false,
    minify: true,
    logLevel: 'error',
  });
  return outputFiles[0].text;
}

/** Puts that text in the place of the module which makes it when it is first needed. */
export const helperInBundle = {
  name: 'helper-in-bundle',
  setup(builder) {
    builder.onResolve({ filter: /\/helper-source\.ts$/ }, () => ({ path: 'helper', namespace: 'helper' }));
    builder.onLoad({ filter: /.*/, namespace: 'helper' }, async () => ({
      contents: `export const helperSource = async () => ${JSON.stringify(await bundledHelper())};`,
    }));
  },
};
