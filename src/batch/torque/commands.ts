// Where TORQUE's client commands are, and how they are called.
import { join } from 'node:path';
import type { Run } from '../../util/processes/run.ts';
import { spawnRun } from '../../util/processes/spawn-run.ts';

/** How to reach the batch server. */
export interface Torque {
  /** Folder of the commands; undefined: PATH. */
  binPath: string | undefined;
  /** Runs programs; a test may put another in its place. */
  run: Run;
}

/** @param binPath `[lrms] pbs_bin_path` */
export function torqueAt(binPath: string | undefined): Torque {
  return { binPath, run: spawnRun };
}

/** What to execute for `qsub` and the like. */
export function commandPath(torque: Torque, name: string): string {
  return torque.binPath === undefined ? name : join(torque.binPath, name);
}
