// The files beside a session directory, `.diag` and `.comment`, and the job's log: what is done to them, as
// the job's user.
import { type Diag, parseDiag, renderDiag } from '../../arc/diag.ts';
import type { FileOperation } from '../../util/accounts/as-user.ts';

/** Real ones have some hundred bytes. */
const DIAG_MAX_BYTES = 1024 * 1024;

/** How much of a batch job's output goes into the log that the user gets. Bytes. */
const COMMENT_MAX_BYTES = 1024 * 1024;

export function readDiag(sessionDirectory: string): FileOperation {
  return { do: 'read', path: `${sessionDirectory}.diag`, maxBytes: DIAG_MAX_BYTES, longer: 'refuse' };
}

/** @param data what was read; undefined if there is no such file */
export function diagOf(data: string | undefined): Diag {
  return data === undefined ? [] : parseDiag(data);
}

/** In place: A-REX makes the file for the user, who may not create anything beside the session directory, so
 * there is no temporary neighbour to rename. A-REX looks at it only when lrms_done is there, which comes
 * after. */
export function writeDiag(sessionDirectory: string, diag: Diag): FileOperation {
  return { do: 'overwrite', path: `${sessionDirectory}.diag`, data: renderDiag(diag) };
}

/** The batch job's output, its beginning and end if it is long. */
export function readComment(sessionDirectory: string, maxBytes = COMMENT_MAX_BYTES): FileOperation {
  return { do: 'read', path: `${sessionDirectory}.comment`, maxBytes, longer: 'leave-out-the-middle' };
}

/** Appends the batch job's output to the job's log in the control directory, which belongs to the same user,
 * unless it is there already: a scan that was ended between this and lrms_done does both again.
 * @param output bytes as latin1
 * @param localId names the batch job in the log */
export function appendErrorsOnce(path: string, output: string, localId: string): FileOperation {
  const name = localId.replaceAll(/[^\x21-\x7e]/g, '?').slice(0, 200);
  const end = `--- end of output of batch job ${name}\n`;
  const begin = `--- output of batch job ${name}\n`;
  const data = `${begin}${output}${output.endsWith('\n') ? '' : '\n'}${end}`;
  return { do: 'append', path, data, unlessHas: end };
}
