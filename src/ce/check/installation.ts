// Checks of what is installed on a CE: ARC's links to vmbatch, the program behind them, Node, gm-kick, the
// scan.
import { readdirSync, readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Check, type Finding, failed, ok, skipped, warning } from '../../util/check.ts';
import { errnoOf } from '../../util/errors.ts';
import { folderOf } from '../../util/processes/find-program.ts';
import { describeRun } from '../../util/processes/run.ts';
import { absent, PROGRAMS } from '../../util/programs.ts';
import { findGmKick } from '../scan/gm-kick.ts';
import { type CeSite, obstacle } from './site.ts';

/** What A-REX looks for in its data directory, and whether it is a program. */
const BACKEND_FILES: Readonly<Record<string, boolean>> = {
  'submit-vmbatch-job': true,
  'scan-vmbatch-job': true,
  'cancel-vmbatch-job': true,
  'VMBATCHmod.pm': false,
};

const OLDEST_NODE = [20, 19];

export const INSTALLATION_CHECKS: readonly Check<CeSite>[] = [
  {
    name: 'backend-files',
    about:
      "ARC's data directory has the four files of arc-backend, of this very installation, for all to use",
    check: checkBackendFiles,
  },
  {
    name: 'program',
    about: 'the program that they start is this one, and a mapped user can start it as A-REX would',
    needs: ['backend-files'],
    check: checkProgram,
  },
  {
    name: 'node',
    about: 'Node is recent enough, and in the PATH that services have',
    check: checkNode,
  },
  {
    name: 'programs',
    about:
      'the programs that submit, scan, cancel and the information provider start are where services look',
    check: ({ system }) => checkPrograms(system.servicePath),
  },
  {
    name: 'gm-kick',
    about: 'A-REX can be told at once that a job has ended',
    check: checkGmKick,
  },
  {
    name: 'scan',
    about: 'the scan runs for this control directory',
    needs: ['configuration'],
    check: checkScan,
  },
];

async function checkBackendFiles(site: CeSite): Promise<Finding[]> {
  const { data } = site.arc;
  const viewer = await site.viewer();
  const missing: string[] = [];
  const findings = await Promise.all(
    Object.entries(BACKEND_FILES).map(async ([name, program]): Promise<Finding | undefined> => {
      const path = join(data, name);
      const ours = join(site.installation, 'arc-backend', name);
      const link = `ln -sf ${ours} ${data}/`;
      let target: string;
      try {
        target = realpathSync(path);
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') return failed(`${path}: ${errnoOf(error)}`, link);
        missing.push(name);
        return undefined;
      }
      if (target !== realpathOr(ours) && !sameContent(target, ours))
        return warning(
          target === path
            ? `${path} is a copy that differs from the one of this installation`
            : `${path} is ${target}, not of this installation`,
          link,
        );
      const why = await obstacle(viewer, target, program ? ['-r', '-x'] : ['-r']);
      return why === undefined
        ? undefined
        : failed(
            `${path}: ${why}`,
            'let everybody read it, and enter the folders above; programs: mode 0755',
          );
    }),
  );
  const wrong = findings.flatMap((finding) => finding ?? []);
  if (missing.length > 0)
    wrong.unshift(
      failed(
        `${data} has no ${missing.join(', no ')} (or a link to nothing)`,
        `ln -sf ${site.installation}/arc-backend/* ${data}/`,
      ),
    );
  return wrong.length > 0 ? wrong : [ok(`${data}: ${Object.keys(BACKEND_FILES).length} files`)];
}

function realpathOr(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function sameContent(one: string, other: string): boolean {
  try {
    return readFileSync(one).equals(readFileSync(other));
  } catch {
    return false;
  }
}

/** Starts what submit would start, with the environment of a service. */
async function checkProgram(site: CeSite): Promise<Finding> {
  const path = join(site.arc.data, 'submit-vmbatch-job');
  const program = await programBehind(site, path);
  if (program === undefined)
    return failed(
      `${path} finds no vmbatch program`,
      `correct the line vmbatch=... in it, or link the one in ${site.installation}`,
    );
  const viewer = await site.viewer();
  const result = await viewer.run(program, ['--version'], { PATH: site.system.servicePath });
  if (result.exitCode !== 0)
    return failed(
      `${program} cannot be started by ${viewer.name}: ${describeRun(result)}`,
      'let everybody read it and enter the folders above, and install Node where services find it',
    );
  const version = result.stdout.trim().replace(/^vmbatch /, '');
  if (version !== site.version)
    return warning(
      `A-REX starts vmbatch ${version} (${program}), this is ${site.version}`,
      `link the files of ${site.installation}/arc-backend, or install one version`,
    );
  return ok(`${program}: vmbatch ${version}`);
}

/** By the rule of the files themselves: a fixed place first, then beside their folder. */
async function programBehind(site: CeSite, path: string): Promise<string | undefined> {
  const fixed = /^vmbatch=(\/\S+)$/m.exec(readFileSync(path, 'utf8'))?.[1];
  const here = dirname(realpathSync(path));
  const candidates = [join(here, '../vmbatch'), join(here, '../dist/vmbatch')];
  for (const candidate of fixed === undefined ? candidates : [fixed, ...candidates])
    if ((await site.run('test', ['-f', candidate, '-a', '-x', candidate])).exitCode === 0) return candidate;
  return undefined;
}

async function checkNode(site: CeSite): Promise<Finding> {
  const least = OLDEST_NODE.join('.');
  const { servicePath } = site.system;
  const result = await site.run('env', ['-i', `PATH=${servicePath}`, 'node', '--version']);
  const [major = 0, minor = 0] = result.stdout.trim().replace(/^v/, '').split('.').map(Number);
  if (result.exitCode !== 0)
    return failed(
      `no node in ${servicePath}, which is where A-REX looks`,
      `install Node ${least} or newer there, or link it to /usr/local/bin`,
    );
  const [leastMajor = 0, leastMinor = 0] = OLDEST_NODE;
  if (major < leastMajor || (major === leastMajor && minor < leastMinor))
    return failed(`Node ${result.stdout.trim()}`, `install ${least} or newer`);
  return ok(`Node ${result.stdout.trim()}`);
}

function checkPrograms(path: string): Finding[] {
  const needed = PROGRAMS.filter(({ ce }) => ce !== undefined);
  const findings = needed
    .filter(({ name }) => folderOf(name, path) === undefined)
    .map((program) => (program.ce === 'always' ? failed : warning)(...absent(program, path)));
  return findings.length > 0 ? findings : [ok(needed.map(({ name }) => name).join(', '))];
}

function checkGmKick({ environment, arc }: CeSite): Finding {
  const program = findGmKick(environment);
  return program === undefined
    ? warning(
        `${arc.location} has no gm-kick: A-REX sees ended jobs only at its next round (up to 3 minutes)`,
        "install ARC's A-REX package, or set ARC_LOCATION as its service does",
      )
    : ok(program);
}

/** By the arguments of the processes: those of others can be seen by everybody, unless /proc is mounted
 * otherwise. */
function checkScan({ system, configuration }: CeSite): Finding {
  const directory = configuration.controlDirectory;
  let processes: string[];
  try {
    processes = readdirSync(system.proc).filter((name) => /^[0-9]+$/.test(name));
  } catch (error) {
    return skipped(`${system.proc} cannot be read (${errnoOf(error)})`);
  }
  if (!processes.includes('1')) return skipped('the processes of others cannot be seen');
  for (const pid of processes) {
    const words = commandLine(join(system.proc, pid, 'cmdline'));
    const program = words.findIndex((word) => /(^|\/)(vmbatch|scan-vmbatch-job)$/.test(word));
    if (program < 0 || !words.includes(directory)) continue;
    if (words[program]?.endsWith('scan-vmbatch-job') === true || words[program + 1] === 'scan')
      return ok(`process ${pid}`);
  }
  return warning(
    `no scan runs for ${directory}: no job would ever end`,
    'start A-REX; if it runs, its [arex] helperlog says why the scan does not',
  );
}

function commandLine(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\0');
  } catch {
    return []; // it has ended meanwhile
  }
}
