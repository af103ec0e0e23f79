// Whose a batch job is: by what TORQUE says of it, since the id in a grid job's files may be anybody's.
import type { Run } from '../util/processes/run.ts';

/** The uid of the account in `user@host`; undefined if it cannot be found out, maybe only now. */
export async function accountOf(owner: string, run: Run): Promise<number | undefined> {
  const at = owner.lastIndexOf('@');
  const name = at < 0 ? owner : owner.slice(0, at);
  // A number would be taken for a uid.
  if (name === '' || /^[0-9]+$/.test(name)) return undefined;
  const result = await run('id', ['-u', '--', name], { timeoutMs: 10_000 });
  const uid = result.stdout.trim();
  return result.exitCode === 0 && /^[0-9]+$/.test(uid) ? Number(uid) : undefined;
}

/** Whether a batch job was submitted for this grid job, by vmbatch or by ARC's own `pbs`: its output goes to
 * the `.comment` beside the session directory, whose name is the grid id.
 * @param errorPath `host:/path` */
export function outputIsOf(gridId: string, errorPath: string | undefined): boolean {
  return errorPath?.endsWith(`/${gridId}.comment`) === true;
}
