// Looks at a shared file system that cannot hang whoever looks. A call on a share whose server is gone
// returns when the server does, and a Node that waits in such a call cannot even exit: so a small shell makes
// the first step, and Node follows only where that came back.
import { type ChildProcess, spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import { errnoOf, VmbatchError } from '../../util/errors.ts';

export interface ShareGuard {
  /** Whether something is there.
   * @throws VmbatchError `node` (`share-hangs`) if no answer comes in time: from then on every look throws at
   * once */
  exists(path: string): Promise<boolean>;
  /** Ends the shell. */
  close(): void;
}

/** Builtins only: a process for each look would cost more than the look. */
const LOOK = 'while IFS= read -r path; do if [ -e "$path" ]; then echo y; else echo n; fi; done';

/** @param share for messages: where it is, and its server
 * @param deadlineMs how long one look may take */
export function openShareGuard(share: string, deadlineMs: number): ShareGuard {
  let shell: ChildProcess | undefined;
  let waiting: ((found: boolean) => void) | undefined;
  let broken: VmbatchError | undefined;

  const start = (): ChildProcess => {
    const child = spawn('/bin/sh', ['-c', LOOK], { stdio: ['pipe', 'pipe', 'ignore'], env: {} });
    child.stdin?.on('error', () => undefined);
    child.stdout?.on('data', (data: Buffer) => waiting?.(data.toString('latin1').startsWith('y')));
    // It cannot be started, or somebody ended it: the caller looks for himself then.
    child.once('error', () => waiting?.(true));
    child.once('exit', () => waiting?.(true));
    return child;
  };

  const letGo = () => {
    const child = shell;
    shell = undefined;
    if (child === undefined) return;
    // Killed, it may still wait for the server; nothing of ours may wait for it.
    child.stdin?.destroy();
    child.stdout?.destroy();
    child.kill('SIGKILL');
    child.unref();
  };

  const look = async (path: string): Promise<boolean> => {
    if (broken !== undefined) throw broken;
    // A line is a path: one with a line break is none of ours.
    if (path.includes('\n')) return false;
    shell ??= start();
    const child = shell;
    const found = await new Promise<boolean | undefined>((resolve) => {
      // When this process was busy for that long itself, the answer lies in the pipe: it is read before the
      // immediate runs.
      const late = setTimeout(() => setImmediate(() => resolve(undefined)), deadlineMs);
      waiting = (answer) => {
        clearTimeout(late);
        resolve(answer);
      };
      child.stdin?.write(`${path}\n`);
    });
    waiting = undefined;
    if (found !== undefined) return found;
    letGo();
    broken = new VmbatchError({
      fault: 'node',
      code: 'share-hangs',
      message: `the share ${share} hangs: a look at ${path} has had no answer for ${deadlineMs / 1000} s`,
      hint: 'is its server up, and can this node reach it? timeouts.share decides how long to wait',
    });
    throw broken;
  };

  // The shell answers one question after the other.
  let last: Promise<unknown> = Promise.resolve();
  return {
    exists(path) {
      const answer = last.then(() => look(path));
      last = answer.catch(() => undefined);
      return answer;
    },
    close: letGo,
  };
}

/** Checks that the share is there and answers.
 * @throws VmbatchError `node`: `share-hangs`; `share-stale` with the system's reason */
export async function checkShare(guard: ShareGuard, share: string, path: string): Promise<void> {
  // What did not hang for the shell does not hang for us.
  await guard.exists(path);
  let reason = 'is no directory';
  try {
    if (statSync(path).isDirectory()) return;
  } catch (error) {
    reason = `cannot be used (${errnoOf(error)})`;
  }
  throw new VmbatchError({
    fault: 'node',
    code: 'share-stale',
    message: `the share ${share} ${reason}`,
    hint: `is it mounted on this node? try: stat ${path}; after ESTALE or ENOTCONN, unmount it and mount it again`,
  });
}
