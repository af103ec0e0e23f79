// The ready file: a guest's own word that its job can be run. Root in the guest belongs to the job, so what
// stands in the file is foreign text.

import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import type { ErrorCode } from '../../util/error-codes.ts';
import { errnoOf, VmbatchError } from '../../util/errors.ts';
import { makeDirectory, readForeignFile } from '../../util/files/files.ts';
import { printable } from '../../util/log.ts';
import { commandLine } from '../../util/quote.ts';
import type { ShareGuard } from '../share/guard.ts';

/** A ready file is one line of a few hundred bytes. */
const MAX_BYTES = 4096;

const text = z.string().max(256);
const READY = z.object({
  version: z.literal(1),
  jobId: text,
  nonce: text,
  address: z.union([z.ipv4(), z.ipv6()]),
  port: z.int().min(1).max(65535),
  hostKey: z.string().max(512),
  hostname: text,
  kernel: text,
  bootId: z.uuid(),
  vcpus: z.int().min(1),
  memoryKiB: z.int().min(1),
  system: text,
  /** The DHCP server that gave the address. */
  dhcpServer: z.ipv4().optional(),
  /** What its job may miss, such as a repository that could not be mounted. */
  notes: z.string().max(1024).optional(),
});
const FAILED = z.object({ version: z.literal(1), jobId: text, nonce: text, error: z.string().max(1024) });

export type ReadyReport = z.infer<typeof READY>;

export interface ReadyExpectation {
  path: string;
  jobId: string;
  nonce: string;
  /** Only the job's user may have written it. */
  ownerUid: number;
  /** The host key that was put into the guest: `ssh-ed25519 BASE64`. */
  hostKey: string;
}

/** Reads the ready file if it is there.
 * @throws VmbatchError `node` if it reports a failure or is not what this guest must write. */
function readReadyFile(expected: ReadyExpectation): ReadyReport | undefined {
  const bounds = { maxBytes: MAX_BYTES, ownerUid: expected.ownerUid };
  const content = readForeignFile(expected.path, bounds, 'node');
  return content === undefined
    ? undefined
    : parseReadyReport(content, `ready file ${expected.path}`, expected);
}

/** Checks what a guest says of itself, whichever way it came.
 * @param where for messages
 * @throws VmbatchError `node`: `guest-failed` if it reports a failure, `ready-file-refused` if it is not what
 * this guest must say */
export function parseReadyReport(
  content: Buffer,
  where: string,
  expected: Omit<ReadyExpectation, 'path' | 'ownerUid'>,
): ReadyReport {
  const refuse = (why: string, hint?: string) =>
    new VmbatchError({
      fault: 'node',
      code: 'ready-file-refused',
      message: `${where}: ${why}`,
      hint,
      jobId: expected.jobId,
    });
  let parsed: unknown;
  try {
    parsed = JSON.parse(content.toString('utf8'));
  } catch {
    throw refuse(`is not JSON: ${printable(content.toString('latin1').slice(0, 80))}`);
  }
  const failure = FAILED.safeParse(parsed);
  if (failure.success && failure.data.nonce === expected.nonce)
    throw new VmbatchError({
      fault: 'node',
      code: 'guest-failed',
      message: `the guest could not make itself ready: ${printable(failure.data.error)}`,
      jobId: expected.jobId,
    });
  const report = READY.safeParse(parsed);
  if (!report.success) {
    const [issue] = report.error.issues;
    throw refuse(`${issue?.path.join('.') || 'content'}: ${issue?.message}`);
  }
  if (report.data.jobId !== expected.jobId)
    throw refuse(`is about job ${printable(report.data.jobId)}, must be about ${expected.jobId}`);
  if (report.data.nonce !== expected.nonce) throw refuse('is from another start of this job');
  if (report.data.hostKey.split(' ').slice(0, 2).join(' ') !== expected.hostKey)
    throw refuse('the guest has another host key than the one made for it', 'does its SSH server read it?');
  return report.data;
}

/** Makes the directory of the ready files if it is missing: every user's guest writes there, as that user,
 * and none may touch another's file.
 * @throws VmbatchError `node` if guests could not write there. */
export function checkReadyDirectory(path: string): void {
  const refuse = (why: string, hint: string, cause?: unknown) =>
    new VmbatchError({
      fault: 'node',
      code: 'ready-directory',
      message: `guests cannot write their ready files to ${path} (${why})`,
      hint,
      cause,
    });
  let mode: number;
  try {
    makeDirectory(dirname(path), 0o755);
    makeDirectory(path, 0o1777);
    mode = statSync(path).mode;
  } catch (error) {
    throw refuse(
      errnoOf(error) ?? String(error),
      errnoOf(error) === 'EROFS'
        ? 'the share is mounted read-only on this node: mount it so that it can be written'
        : `is the share mounted? where root may not write on it, make the directory on its server: ${commandLine('mkdir', '-p', '-m', '1777', path)}`,
      error,
    );
  }
  if ((mode & 0o1777) !== 0o1777)
    throw refuse(`its mode is ${(mode & 0o7777).toString(8)}`, commandLine('chmod', '1777', path));
}

export interface WaitOptions {
  deadlineMs: number;
  /** Milliseconds between looks. */
  intervalMs?: number;
  signal: AbortSignal;
  /** Says why there is no sense in waiting on, or undefined while there is. Asked now and then. */
  givenUp: () => string | { code: ErrorCode; message: string; hint: string } | undefined;
}

const LOOKS_UNTIL_ASKED = 10;

/** Waits for a guest's word that it is ready.
 * @param look asks for it once: the report, or undefined while there is none
 * @param awaited what is waited for, for messages
 * @throws VmbatchError `node` when the guest died, failed or is late; the signal's reason when aborted. */
export async function waitForReport(
  look: () => Promise<ReadyReport | undefined>,
  awaited: { what: string; jobId: string },
  options: WaitOptions,
): Promise<ReadyReport> {
  const started = performance.now();
  for (let looks = 1; ; looks++) {
    options.signal.throwIfAborted();
    const report = await look();
    if (report !== undefined) return report;
    const waited = performance.now() - started;
    const late = waited >= options.deadlineMs;
    // Asked less often than the file is looked for: it costs more.
    const reason = late || looks % LOOKS_UNTIL_ASKED === 0 ? options.givenUp() : undefined;
    if (reason !== undefined || late)
      throw new VmbatchError({
        fault: 'node',
        ...(reason === undefined
          ? {
              code: 'guest-not-ready',
              message: `the guest ${awaited.what} within ${(options.deadlineMs / 1000).toFixed(0)} s`,
            }
          : typeof reason === 'string'
            ? { code: 'guest-died', message: reason }
            : reason),
        jobId: awaited.jobId,
      });
    await sleep(options.intervalMs ?? 50, undefined, { signal: options.signal }).catch(() => undefined);
  }
}

/** Waits for the ready file on the share.
 * @throws VmbatchError as {@link waitForReport}, and `share-hangs` */
export function waitForReadyFile(
  expected: ReadyExpectation,
  guard: Pick<ShareGuard, 'exists'>,
  options: WaitOptions,
): Promise<ReadyReport> {
  const look = async () => ((await guard.exists(expected.path)) ? readReadyFile(expected) : undefined);
  return waitForReport(
    look,
    { what: `wrote no ready file ${expected.path}`, jobId: expected.jobId },
    options,
  );
}
