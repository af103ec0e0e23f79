// Names that nobody guesses, from the kernel itself: loading node:crypto costs 2 ms, a twentieth of a
// submission.
import { closeSync, openSync, readSync } from 'node:fs';

/** @returns two hexadecimal digits for each of so few bytes (256 at most) */
export function randomToken(bytes: number): string {
  const fd = openSync('/dev/urandom', 'r');
  try {
    const random = Buffer.alloc(bytes);
    // The kernel gives so few at once or not at all.
    if (readSync(fd, random) !== bytes) throw new Error('/dev/urandom gave too little');
    return random.toString('hex');
  } finally {
    closeSync(fd);
  }
}
