// The file system in an image, through programs that need neither to mount it nor to boot the image: the
// port, and the way through e2fsprogs for ext2, ext3 and ext4.
import { readFileSync, writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { VmbatchError } from '../../util/errors.ts';
import { describeRun, type Run } from '../../util/processes/run.ts';
import type { Change } from './contents.ts';

export interface GuestTree {
  /** Those of `paths` that exist. */
  present(paths: readonly string[]): Promise<Set<string>>;
  /** The content of a small file; undefined if there is none. */
  read(path: string): Promise<Buffer | undefined>;
  /** Makes changes; `labels`: with SELinux labels. */
  apply(changes: readonly Change[], labels: boolean): Promise<void>;
}

const LIMIT_MS = 15 * 60_000;

export function layerFailed(message: string, hint?: string): VmbatchError {
  return new VmbatchError({ fault: 'node', code: 'layer-failed', message, hint });
}

/** A file system on an exposed disk: the programs run in its directory, so that no path needs quoting. */
export interface ExposedFileSystem {
  /** Holds `disk`, a file with the disk's bytes, and gets the files that pass between us and debugfs. */
  directory: string;
  /** The byte on the disk where the file system starts. */
  offset: number;
}

const placeOf = ({ offset }: ExposedFileSystem) => `disk?offset=${offset}`;

export function ext4Tree(run: Run, fileSystem: ExposedFileSystem): GuestTree {
  const { directory } = fileSystem;
  let serial = 0;

  async function debugfs(commands: readonly string[], write = false) {
    const script = `commands-${serial++}`;
    writeFileSync(join(directory, script), `${commands.join('\n')}\n`, { mode: 0o600 });
    // debugfs ends with 0 whatever becomes of its commands: what they did is looked at afterwards.
    const args = [...(write ? ['-w'] : []), '-f', script, placeOf(fileSystem)];
    const result = await run('debugfs', args, { timeoutMs: LIMIT_MS, cwd: directory });
    if (result.notFound) throw layerFailed('debugfs is not installed', 'install e2fsprogs');
    if (result.exitCode !== 0 || /^debugfs: .*while (?:trying to open|opening)/m.test(result.stderr))
      throw layerFailed(`the file system cannot be opened: ${describeRun(result)}`);
    return result;
  }

  async function present(paths: readonly string[]): Promise<Set<string>> {
    const { stdout } = await debugfs(paths.map((path) => `stat ${path}`));
    const answers = stdout.split(/^debugfs: stat /m).slice(1);
    return new Set(paths.filter((_path, index) => /^Inode: /m.test(answers[index] ?? '')));
  }

  async function read(path: string): Promise<Buffer | undefined> {
    const copy = `copy-${serial++}`;
    await debugfs([`dump ${path} ${copy}`]);
    try {
      return readFileSync(join(directory, copy));
    } catch {
      return undefined; // there is no such file
    }
  }

  async function apply(changes: readonly Change[], labels: boolean): Promise<void> {
    const parents = [...new Set(changes.flatMap(({ path }) => ancestors(path)))].sort();
    const existing = await present([...parents, ...changes.map(({ path }) => path)]);
    const commands: string[] = [];
    for (const parent of parents) {
      if (existing.has(parent)) continue;
      commands.push(`mkdir ${parent}`, `set_inode_field ${parent} mode 040755`);
      if (labels) commands.push(`ea_set ${parent} security.selinux system_u:object_r:lib_t:s0`);
    }
    for (const [index, change] of changes.entries()) {
      const { path } = change;
      if (existing.has(path)) commands.push(`rm ${path}`);
      if (change.type === 'link') commands.push(`symlink ${path} ${change.target}`);
      else {
        const source = `file-${index}`;
        writeFileSync(join(directory, source), change.data, { mode: 0o600 });
        // Older ones write into the current directory only.
        commands.push(`cd ${posix.dirname(path)}`, `write ${source} ${posix.basename(path)}`, 'cd /');
        for (const [field, value] of [
          ['mode', `0100${change.mode.toString(8)}`],
          ['uid', '0'],
          ['gid', '0'],
        ])
          commands.push(`set_inode_field ${path} ${field} ${value}`);
      }
      if (labels) commands.push(`ea_set ${path} security.selinux ${change.label}`);
    }
    const { stderr } = await debugfs(commands, true);
    const complaint = stderr.split('\n').find((line) => line !== '' && !line.startsWith('debugfs 1.'));
    const there = await present(changes.map(({ path }) => path));
    for (const change of changes) {
      const isThere =
        change.type === 'link'
          ? there.has(change.path)
          : (await read(change.path))?.equals(change.data) === true;
      if (!isThere)
        throw layerFailed(
          `${change.path} could not be written${complaint === undefined ? '' : `: ${complaint}`}`,
          'is there room in the image, and are there free inodes?',
        );
    }
  }
  return { present, read, apply };
}

/** Replays the journal of a file system that was not unmounted: in the layer, not in the image.
 * @throws VmbatchError `node` (`layer-failed`) if the file system is broken */
export async function recoverJournal(run: Run, fileSystem: ExposedFileSystem): Promise<void> {
  const result = await run('e2fsck', ['-p', '-E', 'journal_only', placeOf(fileSystem)], {
    timeoutMs: LIMIT_MS,
    cwd: fileSystem.directory,
  });
  // 1: corrected.
  if (result.exitCode !== 0 && result.exitCode !== 1)
    throw layerFailed(
      `the image was not shut down cleanly, and its file system cannot be recovered: ${describeRun(result)}`,
      'boot the image once and shut it down, or repair it with e2fsck',
    );
}

/** @throws VmbatchError `node` (`layer-failed`) if the file system is not as it should be */
export async function checkFileSystem(run: Run, fileSystem: ExposedFileSystem): Promise<void> {
  const result = await run('e2fsck', ['-f', '-n', placeOf(fileSystem)], {
    timeoutMs: LIMIT_MS,
    cwd: fileSystem.directory,
  });
  if (result.exitCode !== 0)
    throw layerFailed(
      `the file system in the layer is broken: ${describeRun(result)}`,
      'is that of the image sound? e2fsck -fn tells',
    );
}

/** All directories above a path, but not the root. */
function ancestors(path: string): string[] {
  const parent = posix.dirname(path);
  return parent === '/' ? [] : [...ancestors(parent), parent];
}
