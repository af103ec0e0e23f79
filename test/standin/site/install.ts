// Puts the stand-in's commands into a site directory: copies, since a job's user may not be able to read the
// checkout.
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { makeMom, makeSite, momPaths, sitePaths } from '../common/site.ts';
import type { StandinConfigInput } from '../server/config.ts';

const CLIENTS = ['qsub', 'qstat', 'qdel', 'qsig', 'qhold', 'qrls', 'pbsnodes', 'qmgr'];

/** The environment that a job's prologue and shell start from, as Debian's TORQUE packages ship it. */
const PBS_ENVIRONMENT = 'PATH=/bin:/usr/bin\nLANG=C.UTF-8\n';

/** Makes the site directory; an existing standin.json and mom configuration stay. `bundle` is where the built
 * programs are; by default, beside the running one. Returns the absolute home. */
export function install(
  directory: string,
  config: StandinConfigInput,
  bundle = dirname(process.argv[1] ?? ''),
): string {
  const home = resolve(directory);
  const paths = sitePaths(home);
  makeSite(paths);
  writeFileSync(paths.serverName, `${config.serverName}\n`, { mode: 0o644 });
  chmodSync(paths.serverName, 0o644);
  if (!existsSync(paths.config))
    writeFileSync(paths.config, `${JSON.stringify(config, undefined, 2)}\n`, { mode: 0o644 });
  for (const [index, { name }] of config.nodes.entries()) {
    const mom = momPaths(home, name, index === 0);
    makeMom(mom);
    if (!existsSync(mom.environment)) writeFileSync(mom.environment, PBS_ENVIRONMENT, { mode: 0o644 });
    if (!existsSync(mom.config))
      writeFileSync(mom.config, `$pbsserver ${config.serverName}\n`, { mode: 0o644 });
  }
  copyPrograms(home, bundle);
  return home;
}

function copyPrograms(home: string, bundle: string): void {
  for (const name of ['lib', 'bin', 'sbin']) {
    mkdirSync(join(home, name), { recursive: true });
    chmodSync(join(home, name), 0o755);
  }
  for (const name of readdirSync(bundle)) {
    if (!/\.(cjs|pl)$/.test(name)) continue;
    const target = join(home, 'lib', name);
    if (resolve(join(bundle, name)) !== target) copyFileSync(join(bundle, name), target);
    chmodSync(target, 0o644);
  }
  for (const name of CLIENTS) writeShim(home, join(home, 'bin', name), `${name}.cjs`);
  writeShim(home, join(home, 'sbin', 'torque-standin'), 'torque-standin.cjs');
}

/** A certificate file in the environment makes every start of Node three times slower; no client needs it. */
function writeShim(home: string, path: string, program: string): void {
  const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
  const target = quote(join(home, 'lib', program));
  const text = `#!/bin/sh\n# ${program} of a stand-in for TORQUE: for trying and testing only.\nunset NODE_EXTRA_CA_CERTS\nTORQUE_STANDIN_HOME=${quote(home)} exec ${quote(process.execPath)} ${target} "$@"\n`;
  writeFileSync(path, text, { mode: 0o755 });
  chmodSync(path, 0o755);
}
