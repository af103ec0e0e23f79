// Makes a fresh clone ready and runs something in it:
// `node scripts/prepare.mjs [build|demo|mistakes|quick|site|soak|test] [ARGUMENT ...]`. `build` makes dist/
// alone, for which no Debian package is needed. Needs nothing but Node, npm and Debian; what is there already
// is left alone. No imports from node_modules here.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { constants } from 'node:os';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const [task, ...rest] = process.argv.slice(2);

// It makes every Node start several times slower, and nothing here talks to the network but npm.
const environment = { ...process.env };
const startEnvironment = { ...process.env };
delete startEnvironment.NODE_EXTRA_CA_CERTS;

// biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholders
const DPKG_FORMAT = '${Package} ${db:Status-Status}\n';

function say(text) {
  process.stderr.write(`vmbatch: ${text}\n`);
}

function attempt(file, args, env) {
  return spawnSync(file, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });
}

/** Runs a command whose output matters only if it fails. */
function quietly(file, args, env = environment) {
  const result = attempt(file, args, env);
  if (result.status === 0) return;
  process.stderr.write(`${result.stdout ?? ''}${result.stderr ?? ''}`);
  say(`${file} ${args.join(' ')} failed (${result.error?.message ?? `exit code ${result.status}`})`);
  process.exit(1);
}

function npmPackages() {
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  const modules = join(root, 'node_modules');
  const stamp = join(modules, '.vmbatch-lock');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return;
  if (lstatSync(modules, { throwIfNoEntry: false })?.isSymbolicLink()) {
    // npm would empty the folder that it leads to, which is another checkout's.
    say(
      `node_modules is a link, and where it leads are not the packages of this package-lock.json: remove the link (${modules})`,
    );
    process.exit(1);
  }
  say('installing the npm packages of package-lock.json');
  quietly('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
  writeFileSync(stamp, lock);
}

function debianPackages() {
  const wanted = readFileSync(join(root, 'test/debian-packages.txt'), 'utf8')
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '');
  const query = spawnSync('dpkg-query', ['-W', '-f', DPKG_FORMAT, ...wanted], {
    encoding: 'utf8',
  });
  if (query.error !== undefined) {
    say(`this needs Debian: dpkg-query cannot be run (${query.error.message})`);
    process.exit(1);
  }
  const present = new Set(
    query.stdout
      .split('\n')
      .filter((line) => line.endsWith(' installed'))
      .map((line) => line.split(' ')[0]),
  );
  const missing = wanted.filter((name) => !present.has(name));
  if (missing.length === 0) return;
  if (process.getuid() !== 0) {
    say(`these Debian packages are missing, and only root can install them: ${missing.join(' ')}`);
    process.exit(1);
  }
  say(`installing Debian packages: ${missing.join(' ')}`);
  if (missing.includes('cloud-init')) {
    // The tests only read with it: as a service it would set up this very machine at its next start.
    mkdirSync('/etc/cloud', { recursive: true });
    writeFileSync('/etc/cloud/cloud-init.disabled', '');
  }
  const apt = { ...environment, DEBIAN_FRONTEND: 'noninteractive' };
  const install = ['-q', '-y', '--no-install-recommends', 'install', ...missing];
  if (attempt('apt-get', install, apt).status === 0) return;
  // No package lists yet, or so old that what they name is not there any more.
  quietly('apt-get', ['-q', 'update'], apt);
  quietly('apt-get', install, apt);
}

const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--config', 'test/vitest.config.ts'];
const TASKS = {
  demo: [process.execPath, ['build/site/demo.cjs']],
  site: [process.execPath, ['build/site/site.cjs']],
  soak: [process.execPath, ['build/site/soak.cjs']],
  build: [process.execPath, ['scripts/build.mjs']],
  test: [process.execPath, vitest],
  quick: [process.execPath, [...vitest, '--project', 'unit']],
  mistakes: [
    process.execPath,
    [
      ...vitest,
      '--project',
      'mistakes',
      '--reporter',
      'default',
      '--reporter',
      './test/mistakes/reporter.ts',
    ],
  ],
};

/** Waits until no other process prepares this checkout. An abstract socket: its name is free again as soon as
 * its process ends, however it ends. */
async function prepareAlone() {
  const lock = createServer();
  const address = `\0vmbatch-prepare-${createHash('sha256').update(root).digest('hex')}`;
  for (let round = 0; ; round++) {
    const problem = await new Promise((resolve) => {
      lock.once('error', resolve);
      lock.listen(address, () => resolve(undefined));
    });
    lock.removeAllListeners('error');
    if (problem === undefined) return () => new Promise((resolve) => lock.close(resolve));
    if (problem.code !== 'EADDRINUSE') throw problem;
    if (round === 20) say('waiting for another process that prepares this checkout');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const required = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).engines.node;
const [leastMajor, leastMinor] = required.replace('>=', '').split('.').map(Number);
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < leastMajor || (major === leastMajor && minor < leastMinor)) {
  say(`needs Node ${leastMajor}.${leastMinor} or newer, this is ${process.version}`);
  process.exit(1);
}
if (task !== undefined && !Object.hasOwn(TASKS, task)) {
  say(`no such task: ${task} (there are ${Object.keys(TASKS).join(', ')})`);
  process.exit(2);
}
const release = await prepareAlone();
npmPackages();
if (task !== 'build') {
  debianPackages();
  for (const build of ['scripts/build.mjs', 'test/standin/build.mjs', 'test/site/build.mjs'])
    execFileSync(process.execPath, [build], {
      cwd: root,
      env: startEnvironment,
      stdio: ['ignore', 'inherit', 'inherit'],
    });
}
await release();
if (task !== undefined) {
  const [file, args] = TASKS[task];
  const child = spawn(file, [...args, ...rest], { cwd: root, env: startEnvironment, stdio: 'inherit' });
  // The child decides when it is through with cleaning up. From a terminal it gets the signal twice and does
  // not mind.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => {
    process.exitCode = code ?? 128 + constants.signals[signal];
  });
}
