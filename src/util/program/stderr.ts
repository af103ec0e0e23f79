// Writing to stderr at once, past `process.stderr`: making that stream costs a short command 2 ms.
import { writeSync } from 'node:fs';
import { errnoOf } from '../errors.ts';

/** Whether the stream has something to write, so that all that follows must queue behind it. */
let streaming = false;

/** Writes all of it. Nobody who reads it any more (EPIPE) and a full disk are no reason to fail. */
export function writeStderr(text: string | Uint8Array): void {
  const data = typeof text === 'string' ? Buffer.from(text) : text;
  let done = 0;
  try {
    while (!streaming && done < data.length) done += writeSync(2, data, done);
  } catch (error) {
    // A pipe that is full and does not block: the stream knows how to wait.
    if (errnoOf(error) !== 'EAGAIN') return;
    streaming = true;
  }
  if (streaming) process.stderr.write(data.subarray(done));
}
