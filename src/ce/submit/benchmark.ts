// What the accounting needs to know of a job even if its script, which says it again, never runs.
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import type { ArcConfiguration } from '../../arc/configuration/configuration.ts';
import { renderDiag } from '../../arc/diag.ts';
import type { Grami } from '../../arc/grami.ts';
import { decodeBytes, encodeBytes } from '../../arc/text.ts';
import { errnoOf } from '../../util/errors.ts';
import { writeAll } from '../../util/files/files.ts';

/** Adds the job's or its queue's `Benchmark=` to the session's `.diag`, as the user. ARC's submission does it
 * too, in the control directory. Costs no job its submission.
 * @param log gets a line if it cannot be written; without the file, which A-REX makes, there is nothing to
 * do */
export function noteBenchmark(
  grami: Pick<Grami, 'benchmark' | 'queue' | 'sessionDirectory'>,
  configuration: Pick<ArcConfiguration, 'defaultQueue' | 'queue'>,
  log: (line: string) => void,
): void {
  const path = `${decodeBytes(grami.sessionDirectory)}.diag`;
  const queue = grami.queue ?? configuration.defaultQueue;
  const benchmark = grami.benchmark ?? encodeBytes(configuration.queue(queue).benchmark);
  let fd: number | undefined;
  try {
    const { O_WRONLY, O_APPEND, O_NOFOLLOW, O_NONBLOCK } = constants;
    fd = openSync(path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK);
    if (fstatSync(fd).isFile()) writeAll(fd, Buffer.from(renderDiag([['Benchmark', benchmark]]), 'latin1'));
  } catch (error) {
    const why = errnoOf(error) ?? 'unknown error';
    if (why !== 'ENOENT') log(`vmbatch: ${path}: the benchmark could not be written (${why})\n`);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
