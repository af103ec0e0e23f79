// How long the end of a batch job takes to reach A-REX: from TORQUE's line to lrms_done, and to FINISHED.
import { existsSync, type FSWatcher, readdirSync, readFileSync, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import type { Site } from '../site/site.ts';
import type { Arex } from './arex.ts';

interface Ends {
  /** Medians in seconds after the line in TORQUE's log, over all jobs whose end was seen. */
  summary(): { count: number; lrmsDone: number; finished: number };
  close(): void;
}

/** Notes from now on when each `lrms_done` appears: A-REX removes it soon. */
export function watchEnds(arex: Arex, site: Site): Ends {
  const seen = new Map<string, number>();
  const watcher: FSWatcher = watch(arex.control, (_event, name) => {
    const id = /^job\.(\w+)\.lrms_done$/.exec(name ?? '')?.[1];
    if (id !== undefined && !seen.has(id)) seen.set(id, Date.now());
  });
  return {
    summary() {
      const ended = readEnds(site.standin.serverLogDir);
      const times = [...seen].flatMap(([id, done]) => {
        const end = ended.get(arex.localId(id) ?? '');
        const status = join(arex.control, 'finished', `job.${id}.status`);
        if (end === undefined || !existsSync(status)) return [];
        return [{ lrmsDone: (done - end) / 1000, finished: (statSync(status).mtimeMs - end) / 1000 }];
      });
      return {
        count: times.length,
        lrmsDone: median(times.map(({ lrmsDone }) => lrmsDone)),
        finished: median(times.map(({ finished }) => finished)),
      };
    },
    close: () => watcher.close(),
  };
}

/** Milliseconds since 1970 at which the server wrote `Exit_status=`, by job id. */
function readEnds(directory: string): Map<string, number> {
  const ends = new Map<string, number>();
  for (const name of readdirSync(directory))
    for (const line of readFileSync(join(directory, name), 'utf8').split('\n')) {
      const [time = '', , , , id = '', text = ''] = line.split(';');
      if (!text.startsWith('Exit_status=')) continue;
      const [, month, day, year, clock] = /^(\d+)\/(\d+)\/(\d+) (.*)$/.exec(time) ?? [];
      ends.set(id, new Date(`${year}-${month}-${day}T${clock}`).getTime());
    }
  return ends;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
