// What a prologue leaves to the epilogue to say. A plain job's owner reads why it was refused where its error
// output goes; that stands in the mom's own file of the job alone, which TORQUE 6.1 writes when the prologue
// has ended or $jobstartblocktime has passed.
import { mkdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { readForeignFile, writeFileAtomic } from '../../util/files/files.ts';
import { momFileOf } from '../mom-jobs.ts';
import { jobPaths, prepareState } from '../record.ts';

const MAX_NOTE_BYTES = 65_536;

const notePath = (state: string, jobId: string) => join(jobPaths(state, jobId).directory, 'refusal');

/** Leaves the words to the job's epilogue. Not where no mom has asked: no epilogue comes then.
 * @throws VmbatchError `node`; a system error */
export function leaveRefusal(
  state: string,
  { jobId, script }: { jobId: string; script: string },
  text: string,
): void {
  if (momFileOf(script) === undefined || basename(dirname(script)) !== 'jobs') return;
  prepareState(state);
  // The shim of the epilogue asks for this folder, also for jobs of queues that are not served.
  mkdirSync(jobPaths(state, jobId).directory, { recursive: true, mode: 0o711 });
  writeFileAtomic(notePath(state, jobId), text, 0o600);
}

/** What the prologue has left; undefined: it refused nothing. Never throws. */
export function leftRefusal(state: string, jobId: string): string | undefined {
  try {
    const bounds = { maxBytes: MAX_NOTE_BYTES, ownerUid: 0 };
    return readForeignFile(notePath(state, jobId), bounds, 'node')?.toString('utf8');
  } catch {
    return undefined;
  }
}
