// A stream to a file that writes all of what it is given or says that it could not: Node's own standard
// streams take a part for the whole, which is how a file ends on a full disk or at a limit.
import { fstatSync, writeSync } from 'node:fs';
import { Writable } from 'node:stream';

/** @param stream stands for `descriptor`; what is no regular file is left to it */
export function wholeWrites(descriptor: 1 | 2, stream: Writable): Writable {
  if (!fstatSync(descriptor).isFile()) return stream;
  return new Writable({
    write(part: Buffer, _encoding, done) {
      try {
        for (let at = 0; at < part.length; ) at += writeSync(descriptor, part, at);
        done();
      } catch (error) {
        done(error as Error);
      }
    },
  });
}
