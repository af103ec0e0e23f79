// Checks which room of src/ imports which, by the table below: `npm run check`. A room is a folder. Circles
// between files are Biome's matter (`noImportCycles`).
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';

/** For each room, the rooms that its files may import besides their own. `x` stands for the room x and all
 * rooms below it, `x/.` for the room x alone. A room that has no line of its own has that of the room above
 * it. */
const ALLOWED = {
  '.': ['commands', 'util'],
  commands: ['arc', 'batch', 'ce', 'context', 'guest', 'hypervisor', 'image', 'node', 'node-file', 'util'],

  ce: ['arc', 'batch', 'util'],
  'ce/submit': ['ce/.', 'arc', 'batch', 'util'],
  'ce/finish': ['ce/submit', 'arc', 'batch', 'util'],
  'ce/scan': ['ce/.', 'ce/finish', 'arc', 'batch', 'util'],
  'ce/info': ['arc', 'batch', 'util'],
  'ce/check': ['ce/scan', 'ce/info', 'arc', 'batch', 'util'],

  node: ['node/owner', 'node/repeats', 'batch', 'guest', 'hypervisor', 'node-file', 'util'],
  'node/owner': ['util'],
  'node/repeats': ['node/owner', 'util'],
  'node/console': ['util'],
  'node/plan': ['context', 'guest', 'hypervisor', 'node-file', 'util'],
  'node/admission': ['node/.', 'guest', 'hypervisor', 'image', 'node-file', 'util'],
  'node/life/steps': [
    ...['node/.', 'node/admission', 'node/console', 'node/plan'],
    ...['context', 'guest', 'hypervisor', 'image', 'node-file', 'util'],
  ],
  'node/life': [
    ...['node/.', 'node/life/steps', 'node/admission', 'node/console', 'node/owner', 'node/plan'],
    ...['batch', 'context', 'guest', 'hypervisor', 'image', 'node-file', 'util'],
  ],
  'node/guard': [
    ...['node/.', 'node/hooks', 'node/life', 'node/owner', 'node/plan'],
    ...['batch', 'hypervisor', 'node-file', 'util'],
  ],
  'node/hooks': [
    ...['node/.', 'node/guard', 'node/life', 'node/owner', 'node/repeats'],
    ...['batch', 'guest', 'node-file', 'util'],
  ],
  'node/reap': [
    ...['node/.', 'node/admission', 'node/life', 'node/owner'],
    ...['batch', 'guest', 'hypervisor', 'util'],
  ],
  'node/check': ['node', 'batch', 'context', 'guest', 'hypervisor', 'image', 'node-file', 'util'],
  'node/debug': ['node/console', 'guest', 'util'],

  image: ['guest', 'node-file', 'util'],
  'image/layer': ['image/.', 'guest', 'node-file', 'util'],
  'image/catalogue': ['image/.', 'image/layer', 'guest', 'node-file', 'util'],
  guest: ['guest/share', 'context', 'hypervisor', 'node-file', 'util'],
  'guest/disk': ['guest/network', 'hypervisor', 'node-file', 'util'],
  'guest/ready': ['guest/session', 'guest/share', 'hypervisor', 'util'],
  context: ['context/iso9660', 'node-file', 'util'],
  'context/iso9660': ['util'],
  hypervisor: ['node-file', 'util'],

  arc: ['util'],
  'arc/configuration': ['arc/.', 'util'],
  'arc/batch-script': ['arc/.', 'arc/configuration', 'util'],
  batch: ['util'],
  'batch/torque/answers': ['batch/torque/.', 'util'],
  'batch/torque/mom': ['batch/torque/.', 'batch/torque/answers', 'util'],
  'batch/torque/server-log': ['batch/torque/.', 'util'],

  'node-file': ['util'],
  util: [],
  'util/files': ['util/.'],
  'util/processes': ['util/.', 'util/files'],
  'util/templates': ['util/.', 'util/files', 'util/program'],
  'util/program': ['util/.', 'util/accounts'],
  'util/accounts': ['util/.', 'util/accounts/as-user', 'util/files', 'util/processes'],
  'util/accounts/as-user': ['util/.', 'util/files'],
};

const src = join(import.meta.dirname, '..', 'src');
const roomOf = (path) => relative(src, dirname(path)) || '.';
const isBelow = (room, above) => room === above || room.startsWith(`${above}/`);

function rulesOf(room) {
  for (let above = room; above !== '.'; above = dirname(above)) {
    const rules = ALLOWED[above];
    if (rules !== undefined) return rules;
  }
  return room === '.' ? ALLOWED['.'] : [];
}

const isAllowed = (from, to) =>
  from === to ||
  rulesOf(from).some((rule) => (rule.endsWith('/.') ? to === rule.slice(0, -2) : isBelow(to, rule)));

const problems = [];
for (const name of readdirSync(src, { recursive: true })) {
  if (!name.endsWith('.ts') || name.endsWith('.d.ts')) continue;
  const file = join(src, name);
  for (const [, path] of readFileSync(file, 'utf8').matchAll(/(?:\bfrom|\bimport\(?)\s*'(\.[^']+)'/g)) {
    const target = normalize(join(dirname(file), path));
    // What the build has beside the program is no room of it.
    if (relative(src, target).startsWith('..')) continue;
    const [from, to] = [roomOf(file), roomOf(target)];
    if (!isAllowed(from, to))
      problems.push(`src/${name} imports ${relative(src, target)}: ${from} may not import ${to}`);
  }
}
for (const room of Object.keys(ALLOWED)) {
  try {
    readdirSync(join(src, room));
  } catch {
    problems.push(`scripts/check-imports.mjs: there is no room ${room}`);
  }
}
for (const problem of problems) process.stderr.write(`${problem}\n`);
process.exitCode = problems.length === 0 ? 0 : 1;
