// The configuration that `torque-standin server` starts from (standin.json in the site directory).
import { existsSync, readFileSync } from 'node:fs';
import { z } from 'zod';

const attributes = z.record(z.string(), z.string());

const schema = z.strictObject({
  /** May end with a port. */
  serverName: z.string().regex(/^[\w.-]+(:[0-9]+)?$/),
  /** Host part of `Job_Owner` and of log lines (`alice@localhost`). */
  ownerHost: z.string().default('localhost'),
  queues: z
    .array(z.strictObject({ name: z.string().regex(/^[\w.-]+$/), attributes: attributes.default({}) }))
    .min(1),
  nodes: z
    .array(
      z.strictObject({
        name: z.string().regex(/^[\w.-]+$/),
        np: z.int().positive(),
        properties: z.array(z.string().regex(/^[\w.-]+$/)).default([]),
      }),
    )
    .min(1),
  /** Attributes of the server as qmgr sets them: default_queue, keep_completed,
   * disable_automatic_requeue... */
  server: attributes.default({}),
  /** Seconds between SIGTERM and SIGKILL of qdel. */
  killDelaySeconds: z.number().nonnegative().default(2),
  /** Milliseconds before a job whose prologue failed is started again; TORQUE takes about half a second. */
  retryMilliseconds: z.int().nonnegative().default(200),
  /** Seconds until a job that the server has forgotten is found on its mom and killed. */
  straySeconds: z.number().nonnegative().default(13),
  /** Network namespace that moms, and so their jobs, run in. */
  namespace: z
    .string()
    .regex(/^[\w-]+$/)
    .optional(),
  /** A build with cgroups: `qstat` has `req_information` of placed jobs. */
  cgroups: z.boolean().default(false),
  /** Whether moms let a slow prologue delay the next start, as `$jobstartblocktime` does. */
  blockStarts: z.boolean().default(false),
});

export type StandinConfig = z.output<typeof schema>;
export type StandinConfigInput = z.input<typeof schema>;

/** Throws an Error that names the file and the key. */
export function readConfig(path: string): StandinConfig {
  if (!existsSync(path)) throw new Error(`${path}: no such file; 'torque-standin install DIR' writes one`);
  const parsed = schema.safeParse(JSON.parse(readFileSync(path, 'utf8')));
  if (!parsed.success) throw new Error(`${path}: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}
