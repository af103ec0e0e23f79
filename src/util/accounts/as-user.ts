// Doing file work in a user's directory as that user, so that no link of theirs makes root read or write
// elsewhere, and a share on which root is nobody lets us in. Node cannot be relied upon to change its own ids
// (some builds refuse: io_uring would go on with the old ones), so a helper process has the user's from its
// start on. A share that hangs then hangs the helper alone.

import { errnoOf, type Fault, VmbatchError } from '../errors.ts';
import { removeFile } from '../files/files.ts';
import type { FileOperation, FileResult } from './as-user/operations.ts';
import { type Account, Helper, identityArguments, learnFrom } from './as-user/process.ts';

export type { FileOperation, FileResult } from './as-user/operations.ts';
export { type Account, identityArguments } from './as-user/process.ts';

/** How long one operation may take. Milliseconds. */
const DEADLINE_MS = 15_000;

/** The files of one account. */
export interface UserFiles {
  /** Carries out operations as the account, in order; where one hangs, some before it twice.
   * @returns their results. If there are fewer results than operations, the first one without a result hangs,
   * and those after it were not tried.
   * @throws VmbatchError `as-user-denied`, `as-user-ended` if there is no helper, or it was ended: some
   * operations may have been carried out */
  perform(operations: readonly FileOperation[]): Promise<FileResult[]>;
  /** Ends the helper if it has nothing to do; the next operation starts another. */
  rest(): void;
  /** Ends the helper, whatever it does. */
  close(): void;
}

export interface UserFilesOptions {
  /** Whose fault it is that there is no helper. Default: `site`. */
  fault?: Fault;
  deadlineMs?: number;
  /** How long a helper waits for more to do. Default: until it is closed. Milliseconds. */
  idleMs?: number;
}

/** Starts nothing yet. To be closed in the end. */
export function openUserFiles(account: Account, options: UserFilesOptions = {}): UserFiles {
  const { fault = 'site', deadlineMs = DEADLINE_MS, idleMs } = options;
  let helper: Helper | undefined;
  let idle: NodeJS.Timeout | undefined;
  let last: Promise<unknown> = Promise.resolve();
  let waiting = 0;

  const letGo = () => {
    clearTimeout(idle);
    helper?.end();
    helper = undefined;
  };

  /** Results come several at a time: which operation it is that hangs shows when each is asked for alone. */
  const oneByOne = async (
    operations: readonly FileOperation[],
    results: FileResult[],
  ): Promise<FileResult[]> => {
    for (const operation of operations.slice(results.length)) {
      const [result] = await attempt([operation]);
      if (result === undefined) break;
      results.push(result);
    }
    return results;
  };

  const attempt = async (operations: readonly FileOperation[]): Promise<FileResult[]> => {
    clearTimeout(idle);
    for (;;) {
      const isNew = helper === undefined;
      helper ??= await Helper.start(identityArguments(account, { dies: true }));
      const { results, end } = await helper.exchange(operations, deadlineMs);
      if (end === 'answered') {
        if (idleMs !== undefined) idle = setTimeout(letGo, idleMs).unref();
        return results;
      }
      const { said, reason } = helper;
      letGo();
      if (end === 'hung') return operations.length > 1 ? oneByOne(operations, results) : results;
      // Somebody may have ended it while it waited; and a first start may teach us what this system's setpriv
      // takes.
      if (results.length === 0 && (!isNew || learnFrom(said, account))) continue;
      throw new VmbatchError({
        fault,
        code: 'as-user-ended',
        message: `the process that handles the files of uid ${account.uid} ended: ${reason}`,
        hint: 'can that account start this Node, and is there memory for it?',
      });
    }
  };

  return {
    async perform(operations) {
      if (operations.length === 0) return [];
      waiting++;
      const turn = last.then(() => attempt(operations)).finally(() => waiting--);
      last = turn.catch(() => undefined);
      return turn;
    },
    rest() {
      if (waiting === 0) letGo();
    },
    close: letGo,
  };
}

/** Carries out operations as a user, all or until one fails.
 * @returns their results
 * @throws VmbatchError `node`: `file-refused` with the path, `share-hangs`; as `perform` */
export async function performAs(
  account: Account,
  operations: readonly FileOperation[],
  deadlineMs = DEADLINE_MS,
): Promise<FileResult[]> {
  const files = openUserFiles(account, { fault: 'node', deadlineMs });
  try {
    const results = await files.perform(operations);
    for (const [at, operation] of operations.entries()) {
      const result = results[at];
      if (result === undefined)
        throw new VmbatchError({
          fault: 'node',
          code: 'share-hangs',
          message: `${operation.path}: no answer for ${deadlineMs / 1000} s`,
          hint: 'is the server of that file system up, and can this machine reach it?',
        });
      if (!result.ok)
        throw new VmbatchError({
          fault: 'node',
          code: 'file-refused',
          message: `${operation.path}: ${result.why}`,
        });
    }
    return results;
  } finally {
    files.close();
  }
}

/** Removes a user's file from a folder that is the site's: who removes a name follows no link of the user's,
 * so root may try it first; where root is nobody, it is done as the user.
 * @throws VmbatchError as `performAs`; a system error */
export async function removeUsersFile(path: string, account: Account, deadlineMs?: number): Promise<void> {
  try {
    removeFile(path);
  } catch (error) {
    if (errnoOf(error) !== 'EACCES' && errnoOf(error) !== 'EPERM') throw error;
    await performAs(account, [{ do: 'remove', path }], deadlineMs);
  }
}
