// Telling the grid user why a job can never run: TORQUE does not deliver the output of a prologue that exits
// with 1.
import { type Account, performAs } from '../../util/accounts/as-user.ts';
import { readForeignFile } from '../../util/files/files.ts';

/** A directive stands near the beginning of a script. Bytes. */
const MAX_SCRIPT_BYTES = 64 * 1024 * 1024;

/** The prologue has little time, and the share may hang. */
const NOTE_MS = 5_000;

/** Appends `text` to the `.comment` file of a grid job, which its batch script names as its output, as the
 * job's user. Only to a file that is there: A-REX makes it, scan passes it on. Never fails: it comes on top
 * of what the prologue says anyway.
 * @param script path of the job script on the mom
 * @returns whether it stands there now */
export async function noteRefusal(script: string, account: Account, text: string): Promise<boolean> {
  try {
    const bytes = readForeignFile(script, { maxBytes: MAX_SCRIPT_BYTES, ownerUid: account.uid }, 'node');
    const path = commentPath(bytes?.toString('utf8') ?? '');
    if (path === undefined) return false;
    const data = Buffer.from(`${text}\n`).toString('latin1');
    const [result] = await performAs(account, [{ do: 'append', path, data }], NOTE_MS);
    return result?.ok === true && result.found;
  } catch {
    // No share on this node, no space: the job fails without its reason.
    return false;
  }
}

/** `#PBS -e /session/ID.comment`, maybe in quotes. */
function commentPath(script: string): string | undefined {
  return /^#PBS -e (['"]?)(\/[^'"\n]*\.comment)\1\s*$/m.exec(script)?.[2];
}
