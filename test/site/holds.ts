// Holding a job in a state for as long as a test wants.
import { chmodSync, existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { shellQuote } from '../../src/util/quote.ts';
import type { Site } from './site.ts';

/** From now on qsub waits until the returned function is called: `before` the server hears of the job, or
 * `after` it has it, so that the job id is known to nobody yet. */
export function holdQsub(site: Site, when: 'before' | 'after'): () => void {
  const qsub = join(site.standin.binDir, 'qsub');
  const hold = join(site.directory, 'qsub-held');
  if (!existsSync(`${qsub}.real`)) renameSync(qsub, `${qsub}.real`);
  writeFileSync(hold, '');
  const wait = `while [ -e ${shellQuote(hold)} ]; do sleep 0.05; done`;
  const real = shellQuote(`${qsub}.real`);
  writeFileSync(
    `${qsub}.new`,
    when === 'before'
      ? `#!/bin/sh\n${wait}\nexec ${real} "$@"\n`
      : `#!/bin/sh\nid=$(${real} "$@")\ncode=$?\n${wait}\nprintf '%s\\n' "$id"\nexit "$code"\n`,
  );
  chmodSync(`${qsub}.new`, 0o755);
  renameSync(`${qsub}.new`, qsub);
  // What took its place does no harm: a call that is under way still needs the real one where it is.
  return () => rmSync(hold, { force: true });
}

/** From now on fake guests that are started do not become ready until the returned function is called. */
export function holdGuests(site: Site): () => void {
  const hold = join(site.directory, 'fake/hold');
  writeFileSync(hold, '');
  return () => rmSync(hold, { force: true });
}
