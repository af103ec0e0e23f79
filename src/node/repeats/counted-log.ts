// A log that counts. A job that TORQUE starts twice a second and that fails each time the same way must not
// fill the disk, and must not push out what else the log has to tell.
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { namesIn, removeFile } from '../../util/files/files.ts';
import type { Log, LogLine, LogSink } from '../../util/log.ts';
import { isOver, keyOf, memoryFile, readMemory, type Said, writeMemory } from './memory.ts';

export interface CountedLog extends Log {
  /** What failed again and again works now: it is forgotten when the log is closed. */
  succeeded(): void;
}

/** What is counted as one: all that one run of a hook says, or each line by itself. */
export type CountedUnit = 'run' | 'line';

/** Even one that comes twice a second is told of so often. Milliseconds. */
const TOLD_AGAIN_MS = 60 * 60_000;
/** A stack, or what a program said. */
const MOST_FACTS = 8_000;

interface Options {
  job: string;
  unit: CountedUnit;
  /** Where the counts are; undefined: nothing is counted. */
  directory: string | undefined;
  now?: () => number;
}

/** A run that says nothing new leaves one line, with a count, the 2nd, 4th, 8th … time and at least once an
 * hour. A run that says anything new is written whole. Before a job has failed, and where the counts cannot
 * be kept, every line is written at once. */
export function countedLog(sink: LogSink, { job, unit, directory, now = Date.now }: Options): CountedLog {
  const file = directory === undefined ? undefined : memoryFile(directory, job);
  const known = byKey(file === undefined ? [] : readMemory(file).said);
  const lines: LogLine[] = [];
  /** Said before, and not written for now. */
  let held: LogLine[] = [];
  let isNew = known.size === 0;
  let works = false;

  const write = (line: LogLine) => {
    const said = known.get(keyOf(line) ?? '');
    const repeated =
      said === undefined || said.times === 0 ? undefined : { times: said.times + 1, since: said.since };
    sink.write({ ...line, repeated });
  };
  const writeHeld = () => {
    for (const line of held) write(line);
    held = [];
  };
  const closePassed = () => {
    for (const [key, said] of known) {
      if (!isOver(said.last, now())) continue;
      tellRest(sink, job, said);
      known.delete(key);
    }
  };

  return {
    write(level, message, facts) {
      const line: LogLine = { job, at: now(), level, message, facts };
      if (lines.length === 0) closePassed();
      lines.push(line);
      if (unit === 'run' && isNew) return write(line);
      if (known.has(keyOf(line) ?? '')) return void held.push(line);
      if (unit === 'line') return write(line);
      isNew = true;
      // What came again and again until now is another matter.
      if (isWrong(line))
        for (const said of known.values()) {
          tellRest(sink, job, said);
          said.toldTimes = said.times;
        }
      writeHeld();
      write(line);
    },
    succeeded() {
      works = true;
    },
    async close() {
      if (directory === undefined || file === undefined || (lines.length === 0 && !works))
        return sink.close();
      if (works) {
        for (const said of known.values()) tellRest(sink, job, said);
        writeHeld();
        await sink.close();
        if (known.size > 0) writeMemory(directory, job, []);
        return;
      }
      // Another hook of the job may have counted meanwhile.
      const counted = byKey(readMemory(file).said.filter(({ last }) => !isOver(last, now())));
      if (counted.size === 0 && !lines.some(isWrong)) return sink.close();
      for (const [key, { toldTimes }] of known) {
        const said = counted.get(key);
        if (said !== undefined) said.toldTimes = Math.max(said.toldTimes, toldTimes);
      }
      const own = count(counted, lines, (key) => known.has(key) && !(unit === 'run' && isNew));
      if (unit === 'line') {
        for (const said of own.filter(isWrong)) {
          said.leads = true;
          if (isDue(said, now())) tell(sink, job, said, now());
        }
      } else {
        const lead = own.findLast(isWrong) ?? own.at(-1);
        if (lead !== undefined) lead.leads = true;
        if (isNew) for (const said of own) [said.toldTimes, said.toldAt] = [said.times, now()];
        else if (lead !== undefined && isDue(lead, now())) tell(sink, job, lead, now());
        if (isNew && lines.some((line) => isWrong(line) && !known.has(keyOf(line) ?? '')))
          for (const said of counted.values()) if (!own.includes(said)) [said.times, said.toldTimes] = [0, 0];
      }
      await sink.close();
      writeMemory(directory, job, [...counted.values()]);
    },
  };
}

/** Whether a job has been quiet for long enough to be settled. */
export const needsSettling = (directory: string, now = Date.now()): boolean =>
  passed(directory, now).length > 0;

/** Tells the rest of what no longer comes, and forgets it. */
export function settleRepeats(directory: string, sink: LogSink, now = Date.now()): void {
  for (const path of passed(directory, now)) {
    const { job, said } = readMemory(path);
    for (const one of said) tellRest(sink, job, one);
    removeFile(path);
  }
}

function passed(directory: string, now: number): string[] {
  return namesIn(directory)
    .map((name) => join(directory, name))
    .filter((path) => {
      const changed = lstatSync(path, { throwIfNoEntry: false })?.mtimeMs;
      return changed !== undefined && isOver(changed, now);
    });
}

function byKey(said: readonly Said[]): Map<string, Said> {
  return new Map(said.map((one) => [keyOf(one) ?? '', one]));
}

/** Counts each line once for a run.
 * @returns what the run said, in its order */
function count(
  counted: Map<string, Said>,
  lines: readonly LogLine[],
  isHeld: (key: string) => boolean,
): Said[] {
  const own = new Map<string, Said>();
  for (const line of lines) {
    const key = keyOf(line);
    if (key === undefined || own.has(key)) continue;
    const { level, message, facts, at } = line;
    const before = counted.get(key);
    const isFirst = before === undefined || before.times === 0;
    const told = isHeld(key) ? { toldTimes: 0, toldAt: 0 } : { toldTimes: 1, toldAt: at };
    const said: Said = {
      ...(isFirst ? { ...told, since: at, times: 1, leads: before?.leads ?? false } : before),
      ...(isFirst ? {} : { times: before.times + 1 }),
      ...{ level, message, facts: boundedFacts(facts), last: at },
    };
    counted.set(key, said);
    own.set(key, said);
  }
  return [...own.values()];
}

function boundedFacts(facts: LogLine['facts']): LogLine['facts'] {
  return facts !== undefined && JSON.stringify(facts).length <= MOST_FACTS ? facts : undefined;
}

const isWrong = ({ level }: Pick<LogLine, 'level'>) => level === 'error' || level === 'warn';

function isDue({ times, toldTimes, toldAt }: Said, now: number): boolean {
  if (times === toldTimes) return false;
  return (times & (times - 1)) === 0 || now - toldAt >= TOLD_AGAIN_MS;
}

function tell(sink: LogSink, job: string, said: Said, now: number): void {
  const { level, message, facts, times, since, last } = said;
  sink.write({
    ...{ job, at: last, level, message, facts },
    repeated: times > 1 ? { times, since } : undefined,
  });
  [said.toldTimes, said.toldAt] = [times, now];
}

/** The last count, unless the log has it. */
function tellRest(sink: LogSink, job: string, { leads, toldTimes, ...said }: Said): void {
  const { level, message, facts, times, since, last } = said;
  if (!leads || times <= toldTimes) return;
  sink.write({
    ...{ job, at: Date.now(), level, message, facts },
    repeated: { times, since, until: last },
  });
}
