// The bill of materials of the program (CycloneDX 1.5): which packages of which version are in the bundles,
// by what the bundler says it put in. The same sources make the same text.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** @param {string} root of the project
 * @param {string} version of the program
 * @param {readonly import('esbuild').BuildResult<{ metafile: true }>[]} builds
 * @param {Record<string, string>} changes what the build has changed in a package, in words, by its name */
export function billOfMaterials(root, version, builds, changes) {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  const folders = new Set(
    builds
      .flatMap(({ metafile }) => Object.keys(metafile.inputs))
      .flatMap((path) => packageFolder(path) ?? []),
  );
  const components = [...folders].sort().map((folder) => {
    const {
      name,
      version: has,
      license,
    } = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8'));
    return {
      type: 'library',
      'bom-ref': `pkg:npm/${name}@${has}`,
      name,
      version: has,
      purl: `pkg:npm/${name.replace('@', '%40')}@${has}`,
      ...(typeof license === 'string' ? { licenses: [{ license: { id: license } }] } : {}),
      hashes: hashesOf(lock.packages[folder]?.integrity),
      ...(changes[name] === undefined
        ? {}
        : { pedigree: { patches: [{ type: 'unofficial' }], notes: changes[name] } }),
    };
  });
  const component = { type: 'application', 'bom-ref': 'vmbatch', name: 'vmbatch', version };
  return `${JSON.stringify({ bomFormat: 'CycloneDX', specVersion: '1.5', version: 1, metadata: { component }, components }, undefined, 2)}\n`;
}

/** `node_modules/NAME` or `node_modules/@SCOPE/NAME`, also of one inside another's. */
function packageFolder(path) {
  return /^(?:vendor:)?((?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
}

/** Of the package as the registry has it: `sha512-BASE64`. */
function hashesOf(integrity) {
  const [, content] = /^sha512-(.+)$/.exec(integrity ?? '') ?? [];
  return content === undefined
    ? []
    : [{ alg: 'SHA-512', content: Buffer.from(content, 'base64').toString('hex') }];
}
