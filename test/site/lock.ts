// Locks between processes of one machine that are gone with their holder, however it ends.
import { createHash } from 'node:crypto';
import { createServer } from 'node:net';

/** Takes the lock `name` and returns how to give it back; undefined if a living process holds it. An abstract
 * socket: the kernel frees the name when its process ends, so that there is never a stale lock. */
export function tryLock(name: string): Promise<(() => Promise<void>) | undefined> {
  // Such a name has 107 bytes at most; a path may be longer.
  const address = `\0vmbatch-lock-${createHash('sha256').update(name).digest('hex')}`;
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(undefined);
      else reject(error);
    });
    server.listen(address, () => {
      server.unref();
      resolve(() => new Promise((closed) => server.close(() => closed())));
    });
  });
}
