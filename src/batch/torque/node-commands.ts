// TORQUE's client commands on a worker node, whose mom hands a PATH to its hooks that need not lead to them.
import { folderOf, NO_PATH } from '../../util/processes/find-program.ts';
import type { Run } from '../../util/processes/run.ts';
import { spawnRun } from '../../util/processes/spawn-run.ts';
import type { Torque } from './commands.ts';

/** Where TORQUE is when no PATH says so: its own default prefix, and where sites and packages put it. */
export const USUAL_FOLDERS = [
  ...['/usr/bin', '/usr/sbin', '/usr/local/bin', '/usr/local/sbin'],
  ...['/opt/torque/bin', '/opt/torque/sbin', '/usr/local/torque/bin'],
];

/** All folders that are looked at.
 * @param path of whoever starts the command */
export function torqueFolders(path: string = process.env['PATH'] ?? NO_PATH): string[] {
  return [...path.split(':'), ...USUAL_FOLDERS];
}

/** The folder of a command of TORQUE; undefined if it is not to be found.
 * @param binPath `guard.pbs_bin_path` of the node file, which is believed */
export function torqueFolder(
  command: string,
  binPath: string | undefined,
  folders: readonly string[] = torqueFolders(),
): string | undefined {
  return binPath ?? folderOf(command, folders.join(':'));
}

/** How to call `command` on a node. */
export function torqueOnNode(
  command: string,
  binPath: string | undefined,
  run: Run = spawnRun,
  folders?: readonly string[],
): Torque {
  return { binPath: torqueFolder(command, binPath, folders), run };
}
