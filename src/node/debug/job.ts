// Which job of this node an admin means: its whole id, or the number alone.
import { join } from 'node:path';
import { VmbatchError } from '../../util/errors.ts';
import { namesIn } from '../../util/files/files.ts';
import { consoleDirectory } from '../console/saved.ts';

/** The id of a job that has something on this node: a guest, or a kept console.
 * @throws VmbatchError `job` (`job-unknown`) with the ids that there are. */
export function findJob(state: string, given: string): string {
  const running = namesIn(join(state, 'jobs'));
  const consoles = namesIn(consoleDirectory(state))
    .filter((name) => name.endsWith('.log'))
    .map((name) => name.slice(0, -4));
  const known = [...new Set([...running, ...consoles])].sort();
  const found = known.filter((id) => id === given || id.split('.')[0] === given);
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  throw new VmbatchError({
    fault: 'job',
    code: 'job-unknown',
    message:
      found.length > 1
        ? `several jobs of this node are called ${given}: ${found.join(', ')}`
        : `there is nothing of a job ${JSON.stringify(given.slice(0, 80))} on this node`,
    hint: known.length === 0 ? 'there are no jobs here at all' : `there is something of: ${known.join(', ')}`,
  });
}
