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

/** Opens `vmbatch.log` and `vmbatch.json` in `directory`; both are appended to, a line a write, so that hooks
 * of several jobs may share them. Loads winston. */
export async function openLog(directory: string, jobId: string): Promise<Log> {
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
  const stamp = format.timestamp();
  const readable = format.printf(({ level, message, timestamp, facts }) => {
    const tail = Object.entries((facts ?? {}) as Record<string, unknown>)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
      .join('');
    return `${timestamp} ${level.padEnd(5)} ${jobId} ${printable(`${message}${tail}`)}`;
  });
  const options = { dirname: directory, options: { flags: 'a', mode: 0o640 } };
  const transports = [
    new winston.transports.File({
      ...options,
      filename: 'vmbatch.log',
      format: format.combine(stamp, readable),
    }),
    new winston.transports.File({
      ...options,
      filename: 'vmbatch.json',
      format: format.combine(stamp, format.json()),
    }),
  ];
  const logger = winston.createLogger({ level: 'debug', defaultMeta: { job: jobId }, transports });
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
    write(level, message, facts) {
      logger.log({ level, message, ...(facts === undefined ? {} : { facts }) });
    },
    async close() {
      logger.end();
      const late = new AbortController();
      await Promise.race([Promise.all(done), sleep(1_000, undefined, { signal: late.signal })]).catch(broken);
      late.abort();
    },
  };
}

/** A log that is none, for when there is no place for one. */
export const NO_LOG: Log = { write: () => undefined, close: async () => undefined };

/** One line of text that no terminal takes for a command. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: taking them out is the point
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').trimEnd();
}
