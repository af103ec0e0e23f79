// When faults in a row are the node's own: a black hole fails in a minute what a whole cluster runs in a day.
import type { NodeFault } from './state.ts';

/** Faults that say nothing of the node: it is busy, or another node is what is wrong. */
const NOT_THE_NODES = new Set(['starts-busy', 'no-room', 'job-claimed', 'peer-failed', 'peer-silent']);
/** Faults that may be the image's. */
const OF_AN_IMAGE = /^(image-|layer-|guest-(not-ready|failed|died)$|ready-file-refused$)/;
/** More need not be remembered. */
const MOST = 1000;

export function countsAgainstNode(code: string): boolean {
  return !NOT_THE_NODES.has(code);
}

/** Whether a guest that starts says nothing of it: the job did not run in its guest, which was there. */
export function comesAfterStart(code: string): boolean {
  return code === 'starter-unused';
}

/** A job that comes again has one fault: its last. */
export function addFault(faults: readonly NodeFault[], fault: NodeFault): NodeFault[] {
  return [...faults.filter(({ jobId }) => jobId !== fault.jobId), fault].slice(-MOST);
}

/** How many causes faults in a row may have at least, other than the node: each job is one; and all faults
 * that may be those of an image together, if the node has other images (with one image there is no telling,
 * and the node fails every job). */
export function causes(faults: readonly NodeFault[], images: number): number {
  const distinct = new Set(
    faults.map(({ jobId, image, code }) =>
      images > 1 && image !== undefined && OF_AN_IMAGE.test(code) ? `image ${image}` : `job ${jobId}`,
    ),
  );
  return distinct.size;
}

/** One line for the log and for the note that TORQUE shows. */
export function describeStreak(faults: readonly NodeFault[]): string {
  const codes = [...new Set(faults.map(({ code }) => code))];
  return `${faults.length} jobs in a row failed on this node: ${codes.join(', ')}`;
}
