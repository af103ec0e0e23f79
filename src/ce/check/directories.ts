// Checks of A-REX's directories: control directory, session directories, runtime environments.
import { existsSync, lstatSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Check, type Finding, failed, ok, skipped, warning } from '../../util/check.ts';
import { errnoOf } from '../../util/errors.ts';
import { type CeSite, DEFAULT_SESSION_DIRECTORY, obstacle, type Viewer } from './site.ts';

const SHARED_TYPES =
  /^(nfs|nfs4|cifs|smb3|ceph|lustre|gpfs|beegfs|glusterfs|afs|panfs|pvfs2|orangefs|ocfs2|gfs2|9p|virtiofs|fuse\.(ceph|glusterfs|sshfs|beegfs|quobyte|mfs|juicefs).*)$/;
const OUR_RUNTIME = 'ENV/VMBATCH';

export const DIRECTORY_CHECKS: readonly Check<CeSite>[] = [
  {
    name: 'control-directory',
    about: "A-REX's control directory exists, is A-REX's alone, and has a layout that the scan knows",
    needs: ['configuration'],
    check: checkControlDirectory,
  },
  {
    name: 'session-directories',
    about: 'mapped users can reach the session directories, and nodes and guests see them too',
    needs: ['configuration'],
    check: checkSessionDirectories,
  },
  {
    name: 'runtime-environments',
    about: `each enabled runtime environment is there and can be read; ${OUR_RUNTIME} is among them`,
    needs: ['control-directory'],
    check: checkRuntimes,
  },
];

/** Whether `path` answers, asked by another process: a share that hangs must not hang us too. */
const hangs = async ({ run }: CeSite, path: string) => (await run('stat', ['-L', '--', path])).timedOut;

async function checkControlDirectory(site: CeSite): Promise<Finding> {
  const path = site.configuration.controlDirectory;
  if (await hangs(site, path))
    return failed(`${path} does not answer`, 'look at the file system that it is on');
  let stats: ReturnType<typeof statSync>;
  try {
    stats = statSync(path);
  } catch (error) {
    return failed(
      `${path}: ${errnoOf(error) === 'ENOENT' ? 'does not exist' : errnoOf(error)}`,
      'correct [arex] controldir, or start A-REX, which makes it',
    );
  }
  if (!stats.isDirectory()) return failed(`${path} is no directory`, 'correct [arex] controldir');
  const user = site.values('arex', 'user').at(-1) ?? 'root';
  if (stats.uid !== 0 && user.startsWith('root'))
    return failed(`${path} belongs to uid ${stats.uid}, must belong to root`, `chown root ${path}`);
  if ((stats.mode & 0o022) !== 0)
    return failed(
      `${path} can be written by others than its owner (mode ${(stats.mode & 0o7777).toString(8)})`,
      `chmod 0755 ${path}: who can make files there decides what A-REX believes`,
    );
  if (!existsSync(join(path, 'processing')))
    return warning(`${path} has no processing/ yet`, 'start A-REX once: it makes the rest');
  // The mark is there before the first job, jobs/ comes with it.
  const nested = ['version2', 'jobs'].some((name) => existsSync(join(path, name)));
  return ok(`${path}: as ARC ${nested ? '7' : '6'} has it`);
}

async function checkSessionDirectories(site: CeSite): Promise<Finding[]> {
  const given = site.values('arex', 'sessiondir');
  const findings: Finding[] = [];
  for (const value of given.length > 0 ? given : [DEFAULT_SESSION_DIRECTORY]) {
    const [path = '', state] = value.split(/\s+/);
    const drained = state === 'drain' ? ' (drain)' : '';
    const finding = path.startsWith('/')
      ? await checkSessionDirectory(site, path)
      : skipped(`${path}: session directories in the homes of users`);
    findings.push(drained === '' ? finding : { ...finding, found: finding.found + drained });
  }
  return findings;
}

async function checkSessionDirectory(site: CeSite, path: string): Promise<Finding> {
  if (await hangs(site, path)) return failed(`${path} does not answer`, 'look at the share that it is on');
  try {
    if (!statSync(path).isDirectory()) return failed(`${path} is no directory`, 'correct [arex] sessiondir');
  } catch (error) {
    const code = errnoOf(error);
    return code === 'ENOENT'
      ? failed(`${path} does not exist`, 'mount the share, or correct [arex] sessiondir')
      : failed(`${path}: ${code}`, 'look at the folders above it');
  }
  const viewer = await site.viewer();
  const why = (await obstacle(viewer, path, ['-x'])) ?? (await obstacleInJob(site, viewer, path));
  if (why !== undefined)
    return viewer.mapped
      ? failed(`${path}: ${why}`, 'let users enter each folder on the way (mode o+x)')
      : warning(`${path}: ${why}`, 'let those users that jobs are mapped to enter each folder on the way');
  if (site.isRoot && (await site.run('test', ['-w', path])).exitCode !== 0)
    return warning(
      `${path}: root cannot write there (mounted read-only, or with root_squash)`,
      'A-REX makes the directories of jobs there: mount it so that it can',
    );
  if (!site.configuration.sharedFilesystem)
    return ok(`${path}; shared_filesystem = no: nodes need not see it`);
  const { type, from } = mountOf(realpathSync(path), site.system.mounts);
  if (SHARED_TYPES.test(type)) return ok(`${path}: ${type} from ${from}`);
  if (isExported(realpathSync(path), site.system.exports)) return ok(`${path}: exported from here`);
  return warning(
    `${path} is on ${type} (${from}), and the kernel does not export it`,
    'nodes and guests must see it under the same path: share it, or say shared_filesystem = no',
  );
}

/** What a mapped user may not do in one of their own session directories, if there is one. */
async function obstacleInJob(site: CeSite, viewer: Viewer, path: string): Promise<string | undefined> {
  if (!site.isRoot || !viewer.mapped) return undefined;
  const uid = Number((await viewer.run('id', ['-u'])).stdout);
  const own = readdirSync(path)
    .slice(0, 1000)
    .map((name) => join(path, name))
    .find((at) => {
      const stats = lstatSync(at, { throwIfNoEntry: false });
      return stats?.isDirectory() === true && stats.uid === uid;
    });
  return own === undefined ? undefined : obstacle(viewer, own, ['-x', '-w']);
}

/** The file system that holds a path: the last mount at the longest of its prefixes. */
function mountOf(path: string, mounts: string): { type: string; from: string } {
  let best = { at: '', type: 'an unknown file system', from: '?' };
  for (const line of readFileSync(mounts, 'utf8').split('\n')) {
    const [from = '', at = '', type = ''] = line.split(' ').map(unescapeOctal);
    if (at !== '' && isBelow(path, at) && at.length >= best.at.length) best = { at, type, from };
  }
  return best;
}

/** Blanks and the like stand there as `\040`. */
const unescapeOctal = (text: string) =>
  text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));

const isBelow = (path: string, directory: string) =>
  path === directory || path.startsWith(directory.endsWith('/') ? directory : `${directory}/`);

function isExported(path: string, exports: string): boolean {
  try {
    return readFileSync(exports, 'utf8')
      .split('\n')
      .some((line) => line !== '' && isBelow(path, unescapeOctal(line.split(/[ \t]/)[0] ?? '?')));
  } catch {
    return false; // no kernel NFS server here
  }
}

/** Links below `rte/enabled` and `rte/default`, which jobs' submissions read as the mapped user. */
async function checkRuntimes(site: CeSite): Promise<Finding[]> {
  const viewer = await site.viewer();
  const findings: Finding[] = [];
  const found: string[] = [];
  for (const kind of ['default', 'enabled']) {
    const root = join(site.configuration.controlDirectory, 'rte', kind);
    for (const name of namesBelow(root)) {
      found.push(name);
      findings.push(...(await checkRuntime(viewer, kind, name, join(root, name))));
    }
  }
  if (!found.includes(OUR_RUNTIME))
    findings.push(
      warning(
        `${OUR_RUNTIME} is not enabled: jobs cannot choose an image or repositories`,
        `ln -s ${join(site.installation, 'share/rte', OUR_RUNTIME)} ${site.arc.data}/rte/ENV/ && arcctl rte enable ${OUR_RUNTIME}`,
      ),
    );
  return findings.length > 0 ? findings : [ok(found.sort().join(', '))];
}

async function checkRuntime(viewer: Viewer, kind: string, name: string, path: string): Promise<Finding[]> {
  if (!existsSync(path)) {
    const effect = kind === 'default' ? 'no job gets it' : 'jobs that ask for it are refused';
    const advice = `arcctl rte ${kind === 'default' ? 'undefault' : 'disable'} ${name}, or put the file back`;
    return [warning(`${path} leads nowhere: ${effect}`, advice)];
  }
  const why = await obstacle(viewer, path, ['-r']);
  if (why === undefined) return [];
  const target = (await obstacle(viewer, realpathSync(path), ['-r'])) ?? why;
  const effect = kind === 'default' ? 'every job' : 'jobs that ask for it';
  return [
    failed(
      `${name}: ${target}, so ${effect} will fail`,
      'submit runs as the mapped user: let everybody read it',
    ),
  ];
}

/** Of files and links in all depths, `ENV/PROXY`. */
function namesBelow(root: string, prefix = ''): string[] {
  let entries: string[];
  try {
    entries = readdirSync(join(root, prefix));
  } catch {
    return []; // A-REX makes it when something is enabled
  }
  return entries.flatMap((entry) => {
    const name = prefix === '' ? entry : `${prefix}/${entry}`;
    return lstatSync(join(root, name)).isDirectory() ? namesBelow(root, name) : [name];
  });
}
