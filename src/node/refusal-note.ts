// Telling the grid user why a job can never run: TORQUE does not deliver the output of a prologue that exits with 1.
import { type Account, performAs } from '../util/as-user.ts';
import { readForeignFile } from '../util/files.ts';

/** A directive stands near the beginning of a script. Bytes. */
const MAX_SCRIPT_BYTES = 64 * 1024 * 1024;

/** The prologue has little time, and the share may hang. */
const NOTE_MS = 5_000;

/** Appends `text` to the `.comment` file of a grid job, which its batch script names as its output, as the job's user.
 * Only to a file that is there: A-REX makes it, scan passes it on. Other jobs have none. Never fails: it comes on top of
 * what the prologue says anyway.
 * @param script path of the job script on the mom */
export async function noteRefusal(script: string, account: Account, text: string): Promise<void> {
  try {
    const bytes = readForeignFile(script, { maxBytes: MAX_SCRIPT_BYTES, ownerUid: account.uid }, 'node');
    const path = commentPath(bytes?.toString('utf8') ?? '');
    if (path === undefined) return;
    const data = Buffer.from(`${text}\n`).toString('latin1');
    await performAs(account, [{ do: 'append', path, data }], NOTE_MS);
  } catch {
    // No share on this node, no space, no such file: the job fails without its reason.
  }
}

/** `#PBS -e /session/ID.comment`, maybe in quotes. */
function commentPath(script: string): string | undefined {
  return /^#PBS -e (['"]?)(\/[^'"\n]*\.comment)\1\s*$/m.exec(script)?.[2];
}
