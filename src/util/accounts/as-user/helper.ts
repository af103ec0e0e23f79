// The helper process: a line of JSON on stdin is an operation, a line on stdout its result. Everything in it
// is synchronous: it has nothing else to do, and Node starts sooner without streams.
import { readSync } from 'node:fs';
import { errnoOf } from '../../errors.ts';
import { writeAll } from '../../files/files.ts';
import { perform } from './operations.ts';

const LINE_FEED = 0x0a;

/** How long results are kept back, to be written together. Milliseconds. */
const TOGETHER_MS = 2;

/** Ends with its input. Whoever asked may be gone before the last operation: a result that nobody takes ends
 * it as well, so after a call that hung nothing more is done for somebody who was killed. */
function serve(): void {
  // That it has started.
  writeAll(1, Buffer.from('\n'));
  const piece = Buffer.alloc(64 * 1024);
  let begun: Buffer[] = [];
  let results = '';
  let written = performance.now();
  const write = () => {
    if (results !== '') writeAll(1, Buffer.from(results));
    results = '';
    written = performance.now();
  };
  for (;;) {
    const got = readSync(0, piece, 0, piece.length, null);
    if (got === 0) return;
    let from = 0;
    for (let at = piece.indexOf(LINE_FEED); at >= 0 && at < got; at = piece.indexOf(LINE_FEED, from)) {
      const line = Buffer.concat([...begun, piece.subarray(from, at)]).toString('utf8');
      begun = [];
      from = at + 1;
      results += `${JSON.stringify(perform(JSON.parse(line)))}\n`;
      if (performance.now() - written > TOGETHER_MS) write();
    }
    write();
    if (from < got) begun.push(Buffer.from(piece.subarray(from, got)));
  }
}

try {
  serve();
} catch (error) {
  if (errnoOf(error) !== 'EPIPE' && errnoOf(error) !== 'ECONNRESET') throw error;
}
