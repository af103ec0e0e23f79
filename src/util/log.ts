// Logs of a node: JSON for machines and readable lines for people, the job's id on every line.
import { closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

type LogLevel = 'error' | 'warn' | 'info' | 'debug';

export interface Log {
  write(level: LogLevel, message: string, facts?: Record<string, unknown>): void;
  /** Waits until every line is on disk: a hook that ends early would lose its last ones. */
  close(): Promise<void>;
}

/** How often a line would have been written, and since when; milliseconds since 1970. */
interface Repeated {
  times: number;
  since: number;
  /** The last time, where that is over. */
  until?: number;
}

export interface LogLine {
  /** The job, or who else writes. */
  job: string;
  /** Milliseconds since 1970. */
  at: number;
  level: LogLevel;
  message: string;
  facts?: Record<string, unknown> | undefined;
  repeated?: Repeated | undefined;
}

/** Where lines go, whoever writes them. */
export interface LogSink {
  write(line: LogLine): void;
  close(): Promise<void>;
}

/** Opens `vmbatch.log` and `vmbatch.json` in `directory`; both are appended to, a line a write, so that hooks
 * of several jobs may share them. Loads winston. */
export async function openLogFiles(directory: string): Promise<LogSink> {
  // The library tries for ever to open what cannot be opened, such as a file on /proc.
  for (const name of ['vmbatch.log', 'vmbatch.json'])
    closeSync(
      openSync(
        join(directory, name),
        constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK,
        0o640,
      ),
    );
  const { default: winston } = await import('winston');
  const { format } = winston;
  // The line as it was given is the one that is not for machines.
  const readable = format.printf(({ line }) => {
    const { at, level, job } = line as LogLine;
    return `${stampOf(at)} ${level.padEnd(5)} ${job} ${printable(textOf(line as LogLine))}`;
  });
  const forMachines = format((entry) => {
    const { line, ...rest } = entry;
    return rest;
  });
  const options = { dirname: directory, options: { flags: 'a', mode: 0o640 } };
  const transports = [
    new winston.transports.File({ ...options, filename: 'vmbatch.log', format: readable }),
    new winston.transports.File({
      ...options,
      filename: 'vmbatch.json',
      format: format.combine(forMachines(), format.json()),
    }),
  ];
  const logger = winston.createLogger({ level: 'debug', transports });
  // A log that cannot be written must not fail what it is about.
  const broken = () => undefined;
  logger.on('error', broken);
  const done = transports.map(
    (file) =>
      new Promise<void>((resolve) => {
        for (const event of ['finish', 'error', 'close']) file.on(event, () => resolve());
      }),
  );
  return {
    write(line) {
      const { job, at, level, message, facts, repeated } = line;
      logger.log({
        level,
        message,
        line,
        job,
        timestamp: stampOf(at),
        ...(facts === undefined ? {} : { facts }),
        ...(repeated === undefined ? {} : { times: repeated.times, since: stampOf(repeated.since) }),
        ...(repeated?.until === undefined ? {} : { until: stampOf(repeated.until) }),
      });
    },
    async close() {
      logger.end();
      const late = new AbortController();
      await Promise.race([Promise.all(done), sleep(1_000, undefined, { signal: late.signal })]).catch(broken);
      late.abort();
    },
  };
}

/** A log of which every line is written. */
export function plainLog(sink: LogSink, job: string): Log {
  return {
    write: (level, message, facts) => sink.write({ job, at: Date.now(), level, message, facts }),
    close: () => sink.close(),
  };
}

/** What people read of a line, after its time, level and job. */
export function textOf({ at, message, facts, repeated }: LogLine): string {
  const tail = Object.entries(facts ?? {})
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join('');
  return `${message}${repeated === undefined ? '' : ` (${describeRepeated(repeated, at)})`}${tail}`;
}

/** `8 times since 12:01:03`; the date stands there only where it is another one. */
function describeRepeated({ times, since, until }: Repeated, at: number): string {
  const first = stampOf(since);
  const last = stampOf(until ?? at);
  const short = (stamp: string) =>
    first.slice(0, 10) === last.slice(0, 10) ? stamp.slice(11, 19) : stamp.slice(0, 19).replace('T', ' ');
  return until === undefined
    ? `${times} times since ${short(first)}`
    : `${times} times from ${short(first)} to ${short(last)}`;
}

const stampOf = (at: number): string => new Date(at).toISOString();

/** A log that discards everything. */
export const NO_LOG: Log = { write: () => undefined, close: async () => undefined };

/** One line of text that no terminal takes for a command. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: taking them out is the point
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').trimEnd();
}
