// Programs that outlive a hook.
import { closeSync, readdirSync, readFileSync } from 'node:fs';

/** Starts a program that outlives us and holds nothing of ours. */
export async function startInBackground(
  file: string,
  args: readonly string[],
  env?: NodeJS.ProcessEnv,
): Promise<void> {
  closeInherited();
  const { execa } = await import('execa');
  const child = execa(file, [...args], {
    detached: true,
    stdio: 'ignore',
    cleanup: false,
    reject: false,
    cwd: '/',
    ...(env === undefined ? {} : { env }),
  });
  child.unref();
}

/** The mom's pipes, which it hands to its hooks without wanting to: whoever is started in the background must
 * not keep them open. Node's own descriptors are all closed on exec, which tells them apart. */
function closeInherited(): void {
  const CLOSE_ON_EXEC = 0o2000000;
  for (const entry of readdirSync('/proc/self/fd')) {
    const fd = Number(entry);
    if (!(fd > 2)) continue;
    try {
      const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
      if (flags !== undefined && (Number.parseInt(flags, 8) & CLOSE_ON_EXEC) === 0) closeSync(fd);
    } catch {
      // the one that read the directory
    }
  }
}
