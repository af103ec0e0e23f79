// The one place that tells who is not root to become it.
import { VmbatchError } from '../errors.ts';

/** @throws VmbatchError `node` (`not-root`) unless we are root */
export function requireRoot(command: string): void {
  const uid = process.geteuid?.();
  if (uid === 0) return;
  throw new VmbatchError({
    fault: 'node',
    code: 'not-root',
    message: `vmbatch ${command} works with what is root's alone, and was started by uid ${uid}`,
    hint: 'run it as root',
  });
}
