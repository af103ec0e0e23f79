// Printing a console. It is the guest's text: a terminal must not obey it.
import { closeSync, openSync, readSync } from 'node:fs';

export interface FollowOptions {
  path: string;
  write: (text: string) => void;
  /** Asked at the end of the file. */
  goOn: () => boolean;
  pause: () => Promise<unknown>;
}

/** Writes the file, and what is added to it for as long as `goOn` says so. */
export async function followConsole({ path, write, goOn, pause }: FollowOptions): Promise<void> {
  const fd = openSync(path, 'r');
  const piece = Buffer.alloc(64 * 1024);
  try {
    for (;;) {
      const got = readSync(fd, piece, 0, piece.length, null);
      if (got > 0) write(harmless(piece.subarray(0, got)));
      else if (goOn()) await pause();
      else return;
    }
  } finally {
    closeSync(fd);
  }
}

/** Line ends and tabs stay, everything else that is no printable ASCII becomes a `?`: escape sequences can do
 * anything to a terminal. Carriage returns before line ends go. */
function harmless(bytes: Buffer): string {
  return bytes
    .toString('latin1')
    .replaceAll('\r\n', '\n')
    .replace(/[^\n\t -~]/g, '?');
}
