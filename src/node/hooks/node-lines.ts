// The node file that TORQUE's mom makes for a job: a line for each of its slots, with the node that the slot
// is on.
import { nodeParts, nodeRequest } from '../../batch/torque/node-request.ts';
import { VmbatchError } from '../../util/errors.ts';
import { readForeignFile } from '../../util/files/files.ts';
import type { Log } from '../../util/log.ts';

/** A name and a line break for each slot of a job. */
const MAX_BYTES = 1024 * 1024;

export interface NodeLinesOptions {
  /** `PBS_NODEFILE` of the prologue's environment. */
  path: string | undefined;
  /** As in the prologue's arguments: `nodes=2:ppn=4,walltime=60`. */
  resources: string;
  log: Log;
}

/** @returns the text of the file; undefined where there is none, which is logged
 * @throws VmbatchError `node` if there is none and the job asks for several nodes: each would start a guest
 * as if it were alone */
export function readNodeLines({ path, resources, log }: NodeLinesOptions): string | undefined {
  const file =
    path === undefined ? undefined : readForeignFile(path, { maxBytes: MAX_BYTES, ownerUid: 0 }, 'node');
  const text = file?.toString('latin1') ?? '';
  if (text.trim() !== '') return text;
  const why = `the mom gave no list of the job's nodes (PBS_NODEFILE is ${path ?? 'not set'})`;
  const parts = nodeParts(nodeRequest(resources).nodes ?? '1');
  if (parts.reduce((sum, { nodes }) => sum + nodes, 0) > 1)
    throw new VmbatchError({
      fault: 'node',
      code: 'hook-arguments',
      message: `the job asks for several nodes, and ${why}`,
      hint: 'the mom writes the list to its folder aux: is the folder there, and has its disk room?',
    });
  log.write('warn', `${why}: PBS_NUM_PPN decides on the processors of the guest`);
  return undefined;
}
