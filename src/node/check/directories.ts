// The row of `check node` about the directories that the node file names, as they are on the disk.
import { accessSync, constants, realpathSync, statSync } from 'node:fs';
import type { NodeConfig } from '../../node-file/read.ts';
import { type Check, type Finding, failed, ok, warning } from '../../util/check.ts';
import { errnoOf } from '../../util/errors.ts';
import { nearestDirectory } from '../../util/files/files.ts';
import { writableByOthers } from '../../util/files/trusted-file.ts';

const OF_THE_KERNEL = /^\/(proc|sys|dev)(\/|$)/;

export const directoriesRow: Check<{ config: () => NodeConfig }> = {
  name: 'directories',
  about:
    'Are the places that the node file names directories, and can only root change what root runs from them?',
  needs: ['node-file'],
  check({ config }) {
    const { state, log, network, hypervisor, context, guard, images } = config();
    const findings: Finding[] = [];
    for (const [key, path] of [
      ['state', state],
      ['log', log],
      ['network.lock_directory', network.lockDirectory],
      ['hypervisor.templates', hypervisor.templates],
      ['context.templates', context.templates],
      ['guard.pbs_bin_path', guard.pbsBinPath],
    ] as const) {
      const problem = path === undefined ? undefined : problemOf(path);
      if (problem !== undefined)
        findings.push(failed(`${key}: ${path} ${problem}`, `correct ${key} in the node file`));
    }
    if (isReadOnly(log))
      findings.push(
        failed(`log: ${log} is mounted read-only`, 'mount it so that it can be written, or correct log'),
      );
    // Others may belong to whoever looks after them; what is in these is run by root.
    const runs = guard.pbsBinPath === undefined ? undefined : writableByOthers(guard.pbsBinPath);
    if (runs !== undefined)
      findings.push(failed(`guard.pbs_bin_path: ${runs}`, 'root runs pbsnodes from there'));
    for (const { name, path } of images.values()) {
      const unsafe = writableByOthers(path);
      if (unsafe !== undefined)
        findings.push(
          warning(`image ${name}: ${unsafe}`, 'whoever can change the image is root in every guest of it'),
        );
    }
    return findings.length > 0 ? findings : ok(`${state}, ${log}`);
  },
};

/** Root may write wherever the file system lets anybody write. */
function isReadOnly(path: string): boolean {
  try {
    accessSync(nearestDirectory(path), constants.W_OK);
    return false;
  } catch (error) {
    return errnoOf(error) === 'EROFS';
  }
}

/** What a path is that is no directory of somebody's; undefined: nothing, or it is not there yet. */
function problemOf(path: string): string | undefined {
  try {
    if (!statSync(path).isDirectory()) return 'is no directory';
    const real = realpathSync(path);
    return OF_THE_KERNEL.test(real) ? `leads to ${real}, where no files can be kept` : undefined;
  } catch (error) {
    return errnoOf(error) === 'ENOENT' ? undefined : `cannot be used (${errnoOf(error)})`;
  }
}
