// Typed errors: whose fault it is, what to do about it, and the one table that turns that into exit codes.

import type { ErrorCode } from './error-codes.ts';

/** Whose fault a failure is. `job`: the request can never work here; `node`: this worker node; `site`: the
 * CE, the batch server or the shared file system; `bug`: ours. */
export type Fault = 'job' | 'node' | 'site' | 'bug';

export interface VmbatchErrorInit {
  fault: Fault;
  /** Stable, kebab-case, for machines: `image-unknown`, `qsub-queue-full`. */
  code: ErrorCode;
  /** What failed, naming the thing: file, line, key, what was found, what is allowed. */
  message: string;
  /** What the reader can do about it. */
  hint?: string | undefined;
  jobId?: string | undefined;
  cause?: unknown;
}

/** The only error that a module throws on purpose. Anything else that surfaces is a bug. */
export class VmbatchError extends Error {
  readonly fault: Fault;
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly jobId: string | undefined;

  constructor(init: VmbatchErrorInit) {
    super(init.message, init.cause === undefined ? undefined : { cause: init.cause });
    this.name = 'VmbatchError';
    this.fault = init.fault;
    this.code = init.code;
    this.hint = init.hint;
    this.jobId = init.jobId;
  }
}

/** A command that was called wrongly, whichever it is. Hooks and the job starter have their own codes for
 * that: the mom makes something of each. */
export const USAGE_EXIT = 2;

/** What each kind of fault means to the programs that start us. */
export interface FaultOutcome {
  /** Exit code of the prologue. TORQUE: 1 fails the job for good, 2 puts it back in the queue; nothing else
   * is safe, since any other code is retried at once and for ever. */
  prologueExit: 1 | 2;
  /** Exit code of the job starter when the job could not be run at all or its guest was lost. Outside what
   * shells use for their own failures (126 to 165). */
  starterExit: number;
  /** Exit code of every other command. */
  commandExit: number;
  /** `lrms_done` code when no exit code of the job itself is known. */
  lrmsCode: number;
  logLevel: 'error' | 'warn';
  /** Whether it counts towards taking the node offline. */
  countsAgainstNode: boolean;
}

export const FAULT_OUTCOMES: Readonly<Record<Fault, FaultOutcome>> = {
  job: {
    prologueExit: 1,
    starterExit: 250,
    commandExit: 1,
    lrmsCode: 250,
    logLevel: 'warn',
    countsAgainstNode: false,
  },
  node: {
    prologueExit: 2,
    starterExit: 251,
    commandExit: 3,
    lrmsCode: 251,
    logLevel: 'error',
    countsAgainstNode: true,
  },
  site: {
    prologueExit: 2,
    starterExit: 252,
    commandExit: 4,
    lrmsCode: 252,
    logLevel: 'error',
    countsAgainstNode: false,
  },
  bug: {
    prologueExit: 2,
    starterExit: 253,
    commandExit: 70,
    lrmsCode: 253,
    logLevel: 'error',
    countsAgainstNode: true,
  },
};

/** Numbers of system errors that only a slip of ours can cause. */
const OUR_ERRNOS = new Set(['EBADF', 'EFAULT']);

/** What to do about a system call that failed. */
export const ERRNO_HINTS: Readonly<Record<string, string>> = {
  EACCES: 'look at owner and mode of that path, and of each folder above it',
  EPERM:
    'look at owner and mode of that path, and whether it is protected (lsattr) or on a share with root_squash',
  ENOENT: 'is that path right, and is what it lies on mounted?',
  ENOTDIR: 'a folder of that path is a file: move it away, or correct the path',
  ENOSPC: 'make room on that disk (df, df -i)',
  EDQUOT: 'make room, or raise the quota',
  EROFS:
    'mount that file system so that it can be written; if it was, the kernel log says why it is not (dmesg)',
  EIO: 'the disk or the share fails: see the kernel log (dmesg)',
  ESTALE: 'mount the share again',
  EMFILE: 'raise the limit of open files (ulimit -n)',
  ENFILE: 'too many files are open on this machine (sysctl fs.file-max)',
  ENOMEM: 'this machine has no memory left',
};

/** Any thrown value as a VmbatchError. A system call that failed (no space, no permission) is the fault of
 * `machine`; what else we did not throw on purpose is a `bug` and keeps its stack. */
export function toVmbatchError(thrown: unknown, machine: 'node' | 'site'): VmbatchError {
  // By name as well: each command is a bundle of its own, with its own copy of the class.
  if (thrown instanceof Error && thrown.name === 'VmbatchError') return thrown as VmbatchError;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  const errno = errnoOf(thrown);
  if (errno === 'MODULE_NOT_FOUND' || errno === 'ERR_MODULE_NOT_FOUND')
    return new VmbatchError({
      fault: machine,
      code: 'installation-incomplete',
      message: `a part of vmbatch is missing, or may not be read: ${message.split('\n')[0]}`,
      hint: 'copy the dist folder as a whole, for everybody to read',
    });
  if (errno !== undefined && !OUR_ERRNOS.has(errno) && thrown instanceof Error && 'syscall' in thrown)
    return new VmbatchError({
      fault: machine,
      code: errno === 'ENOSPC' || errno === 'EDQUOT' ? 'disk-full' : 'system-call',
      message: `a system call failed: ${message}`,
      hint: ERRNO_HINTS[errno],
      cause: thrown,
    });
  const error = new VmbatchError({
    fault: 'bug',
    code: 'unexpected',
    message: `unexpected failure: ${message}`,
    hint: 'please report this with the lines below',
    cause: thrown,
  });
  if (thrown instanceof Error && thrown.stack !== undefined) error.stack = thrown.stack;
  return error;
}

/** The error as its reader sees it: one line for what failed, one for what to do, one for each cause. */
export function formatError(error: VmbatchError): string {
  const lines = [`vmbatch: ${error.fault} fault: ${error.message} [${error.code}]`];
  if (error.hint !== undefined) lines.push(`vmbatch: what to do: ${error.hint}`);
  let cause: unknown = error.cause;
  for (let depth = 0; cause instanceof Error && depth < 5 && error.fault !== 'bug'; depth++) {
    lines.push(`vmbatch: because: ${cause.message}`);
    cause = cause.cause;
  }
  return lines.join('\n');
}

/** The `code` of a Node system error (`ENOENT`), or undefined. */
export function errnoOf(thrown: unknown): string | undefined {
  if (!(thrown instanceof Error) || !('code' in thrown)) return undefined;
  return typeof thrown.code === 'string' ? thrown.code : undefined;
}
