// The file system in an image through libguestfs, where that is installed: for XFS, Btrfs, LVM and whatever
// else it mounts.
import { readFileSync, writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { describeRun, type Run } from '../../util/processes/run.ts';
import type { Change } from './contents.ts';
import { type GuestTree, layerFailed } from './guest-tree.ts';

export const LAYER_FILE = 'layer.qcow2';

/** Its machine is one of KVM's wherever there is a /dev/kvm. */
const HINT =
  'see libguestfs-test-tool; where KVM does not work: LIBGUESTFS_BACKEND_SETTINGS=force_tcg; for ext4 images: --method e2fsprogs';

/** It starts a small machine of its own, slowly where nothing accelerates that. */
const LIMIT_MS = 15 * 60_000;

export async function hasGuestfish(run: Run): Promise<boolean> {
  const result = await run('guestfish', ['--version'], { timeoutMs: 30_000 });
  return result.exitCode === 0;
}

/** @param directory holds the layer, `layer.qcow2`, and gets the files that pass between us and guestfish */
export function guestfishTree(run: Run, directory: string): GuestTree {
  async function guestfish(commands: readonly string[], write = false): Promise<string> {
    const args = ['--format=qcow2', write ? '--rw' : '--ro', '-a', LAYER_FILE, '-i'];
    const result = await run('guestfish', args, {
      input: `${commands.join('\n')}\n`,
      timeoutMs: LIMIT_MS,
      cwd: directory,
      env: { ...process.env, LIBGUESTFS_BACKEND: process.env['LIBGUESTFS_BACKEND'] ?? 'direct' },
    });
    if (result.exitCode !== 0) {
      // Its last lines tell how to report a bug.
      const said = /libguestfs: error: (.*)/.exec(result.stderr)?.[1];
      throw layerFailed(`guestfish cannot work on the image: ${said ?? describeRun(result)}`, HINT);
    }
    return result.stdout;
  }

  async function present(paths: readonly string[]): Promise<Set<string>> {
    const answers = (await guestfish(paths.map((path) => `exists ${path}`))).trim().split('\n');
    return new Set(paths.filter((_path, index) => answers[index] === 'true'));
  }

  async function read(path: string): Promise<Buffer | undefined> {
    if (!(await present([path])).has(path)) return undefined;
    const copy = 'copy';
    await guestfish([`download ${path} ${copy}`]);
    return readFileSync(join(directory, copy));
  }

  /** It stops at the first command that fails: what returns has been done. */
  async function apply(changes: readonly Change[], labels: boolean): Promise<void> {
    const commands: string[] = [];
    for (const [index, change] of changes.entries()) {
      commands.push(`mkdir-p ${posix.dirname(change.path)}`, `rm-f ${change.path}`);
      if (change.type === 'link') commands.push(`ln-s ${change.target} ${change.path}`);
      else {
        const source = `file-${index}`;
        writeFileSync(join(directory, source), change.data, { mode: 0o600 });
        commands.push(
          `upload ${source} ${change.path}`,
          `chmod 0${change.mode.toString(8)} ${change.path}`,
          `chown 0 0 ${change.path}`,
        );
      }
      if (labels)
        commands.push(`lsetxattr security.selinux ${change.label} ${change.label.length} ${change.path}`);
    }
    await guestfish(commands, true);
  }
  return { present, read, apply };
}
