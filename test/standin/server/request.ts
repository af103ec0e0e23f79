// Requests of clients, checked before anything looks at them: any local user may send any bytes.
import { z } from 'zod';
import type { ClientRequest } from '../common/protocol.ts';

// No control characters in what ends up in one-line attributes and log lines.
const word = z
  .string()
  .max(4096)
  .regex(/^[^\0\n\r]*$/);
const pair = z.tuple([
  word,
  z
    .string()
    .max(1024 * 1024)
    .regex(/^[^\0]*$/),
]);
const optional = word.optional();
// A tab separates paths in what the launcher is told.
const path = word.regex(/^[^\t]*$/);
const staged = z.array(z.object({ local: path, host: path, remote: path })).max(1000);

const schema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('submit'),
    name: word,
    queue: optional,
    resources: z.array(z.tuple([word, word])).max(100),
    variables: z.array(pair).max(10_000),
    account: optional,
    outputPath: optional,
    errorPath: optional,
    join: z.enum(['n', 'oe', 'eo']),
    keep: z.enum(['n', 'o', 'e', 'oe', 'eo']),
    hold: z.boolean(),
    mailPoints: word,
    mailUsers: optional,
    priority: z.number(),
    rerunnable: z.boolean(),
    shell: optional,
    scriptArguments: optional,
    umask: z
      .string()
      .regex(/^[0-7]{1,4}$/)
      .optional(),
    arrayRange: optional,
    group: optional,
    initDir: optional,
    executionTime: z.int().nonnegative().optional(),
    stageIn: staged,
    stageOut: staged,
    submitArgs: z.string().max(100_000),
    submitHost: word,
    workDir: word,
    script: z.string(),
  }),
  z.object({ kind: z.literal('jobs'), name: optional }),
  z.object({ kind: z.literal('queues'), name: optional }),
  z.object({ kind: z.literal('server') }),
  z.object({ kind: z.literal('nodes'), name: optional }),
  z.object({
    kind: z.literal('delete'),
    id: word,
    delay: z.number().nonnegative().max(100_000).optional(),
    purge: z.boolean().optional(),
  }),
  z.object({ kind: z.literal('signal'), id: word, signal: z.string().regex(/^[A-Z0-9]{1,12}$/i) }),
  z.object({ kind: z.literal('hold'), id: word, held: z.boolean() }),
  z.object({ kind: z.literal('node'), name: word, offline: z.boolean().optional(), note: optional }),
  z.object({ kind: z.literal('manage'), command: word }),
]);

/** The request, or undefined if the line is none. */
export function parseRequest(line: string): ClientRequest | undefined {
  try {
    const parsed = schema.safeParse(JSON.parse(line));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}
