// What comes along with the program, and what may run when it is installed.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const project = new URL('../../..', import.meta.url).pathname;
const json = (path: string) => JSON.parse(readFileSync(path, 'utf8'));

describe('the package', () => {
  let built: string;
  beforeAll(() => {
    built = mkdtempSync(join(tmpdir(), 'vmbatch-built-'));
    execFileSync(process.execPath, [join(project, 'scripts/build.mjs'), join(built, 'dist')]);
  }, 60_000);
  afterAll(() => rmSync(built, { recursive: true, force: true }));

  it('holds a bill of materials with every library in it, of the version and with the hash that the lock file has', () => {
    const bill = json(join(built, 'dist/sbom.json'));
    expect(bill).toMatchObject({
      bomFormat: 'CycloneDX',
      specVersion: '1.5',
      metadata: { component: { name: 'vmbatch' } },
    });
    const lock = json(join(project, 'package-lock.json')).packages;
    const listed = new Map<string, { version: string; hashes: { content: string }[] }>(
      bill.components.map((component: { name: string }) => [component.name, component]),
    );
    for (const name of Object.keys(json(join(project, 'package.json')).dependencies)) {
      const { version, integrity } = lock[`node_modules/${name}`];
      expect(listed.get(name), name).toMatchObject({ version });
      const hash = Buffer.from(integrity.replace('sha512-', ''), 'base64').toString('hex');
      expect(listed.get(name)?.hashes.map(({ content }) => content)).toEqual([hash]);
    }
    expect(listed.get('ssh2')).toMatchObject({
      pedigree: { patches: [{ type: 'unofficial' }], notes: expect.stringContaining('lib/Channel.js') },
    });
    for (const [name, { hashes }] of listed) expect(hashes, name).toHaveLength(1);
  });

  it('runs no script when it, or what it is made of, is installed', () => {
    const scripts = Object.keys(json(join(project, 'package.json')).scripts);
    const onInstall = [
      'preinstall',
      'install',
      'postinstall',
      'prepare',
      'prepublish',
      'preprepare',
      'postprepare',
    ];
    expect(scripts.filter((name) => onInstall.includes(name))).toEqual([]);
    expect(readFileSync(join(project, '.npmrc'), 'utf8')).toMatch(/^ignore-scripts=true$/m);
  });
});
