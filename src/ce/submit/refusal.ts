// Jobs that cannot be submitted, and how their owners get to know why: submit's own output never reaches
// them, so the job is accepted and then failed by the scan, with the reason.
import { closeSync, constants, fstatSync, fsyncSync, openSync } from 'node:fs';
import { appendJobId, type Grami } from '../../arc/grami.ts';
import { refusedId } from '../../arc/refused-id.ts';
import { decodeBytes } from '../../arc/text.ts';
import { errnoOf, FAULT_OUTCOMES, VmbatchError } from '../../util/errors.ts';
import { writeAll } from '../../util/files/files.ts';

/** A reader of a client's list of jobs gets no more; characters. */
const REASON_MAX = 1000;

/** Whether the owner of the job is to read the error as the end of the job. A `bug` is not: its reader is
 * whoever runs the CE, and a job that A-REX saw fail in its submission can be resubmitted when it is mended.
 * Nor is that there are two submissions: the other one goes on. */
export function isRefusal(error: VmbatchError): boolean {
  return (error.fault === 'job' || error.fault === 'site') && error.code !== 'submitted-twice';
}

/** Writes the reason into the session's `.diag`, as the user, in place: `vmbatch_refusal=CODE TEXT`, CODE as
 * `lrms_done` gets it (250 `job`, 252 `site`). Only then `joboption_jobid=refused.GRIDID` into the grami
 * file, which makes A-REX hand the job to the scan.
 * @returns the job id
 * @throws VmbatchError `site` if the reason cannot be written: then the job is not accepted either */
export function refuseJob(grami: Grami, error: VmbatchError): string {
  const text = error.message.replaceAll(/\p{Cc}+/gu, ' ').slice(0, REASON_MAX);
  appendToDiag(
    `${decodeBytes(grami.sessionDirectory)}.diag`,
    `vmbatch_refusal=${FAULT_OUTCOMES[error.fault].lrmsCode} ${text}\n`,
  );
  const jobId = refusedId(grami.gridId);
  appendJobId(grami.file, jobId);
  return jobId;
}

function appendToDiag(path: string, line: string): void {
  const refuse = (why: string, cause?: unknown) =>
    new VmbatchError({
      fault: 'site',
      code: 'diag-unwritable',
      message: `${path}: the reason of the refusal could not be written (${why})`,
      cause,
    });
  let fd: number | undefined;
  try {
    const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;
    fd = openSync(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600);
    if (!fstatSync(fd).isFile()) throw refuse('it is not a regular file');
    writeAll(fd, Buffer.from(line));
    fsyncSync(fd);
  } catch (error) {
    if (error instanceof VmbatchError) throw error;
    throw refuse(errnoOf(error) ?? 'unknown error', error);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
