// The job's folder where guests do not see the session directory: TORQUE brings it to the node, here it is
// carried into the guest before the job and back after it, as a tar archive over the job's SSH connection.
//
// On the node all is done as the job's user. Archives go through a file, so that only a whole one is ever
// unpacked, and a broken connection costs no more than carrying it again.
import {
  createReadStream,
  createWriteStream,
  existsSync,
  lstatSync,
  mkdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { VmbatchError } from '../../util/errors.ts';
import { describeRun, type Run } from '../../util/processes/run.ts';
import { shellQuote } from '../../util/quote.ts';
import { type Connection, ConnectionLost, type RemoteCommand } from './connection.ts';

/** Carries a job's files. Either may be called again after a `ConnectionLost`. */
export interface Staging {
  /** Before the job is started, and never after that. */
  carryIn(connection: Connection): Promise<void>;
  /** When the job has ended, whatever its exit code. */
  carryOut(connection: Connection): Promise<void>;
}

/** As long as a job may take: what bounds it is the batch system. */
const TAR_TIMEOUT_MS = 24 * 3600_000;

/** @param directory of the job, the same on node and guest; beside it is its `.diag`
 * @throws VmbatchError from both: `site` where the node's folder is missing or cannot be used, `node` where
 * the guest's cannot */
export function stagingOf(directory: string, run: Run): Staging {
  const name = basename(directory);
  const above = dirname(directory);
  const archive = (way: 'in' | 'out') => `${directory}.vmbatch-${way}.tar`;
  return {
    async carryIn(connection) {
      if (!existsSync(directory)) throw notStaged(directory);
      const file = archive('in');
      try {
        await tar(run, ['-cf', file, '-C', directory, '.'], directory);
        const command = await connection.exec(
          guestCommand('mkdir -p -- "$1" && rm -rf -- "$2" && mkdir -- "$2" && exec tar -xf - -C "$2"', [
            above,
            directory,
          ]),
        );
        const complaint = complaintOf(command);
        command.channel.resume();
        // A guest that takes no more of it says why by its end.
        await connection
          .whileUp(Promise.race([pipeline(createReadStream(file), command.channel), command.ended]))
          .catch(ignoreUnlessLost);
        const exitCode = await connection.whileUp(command.ended);
        if (exitCode === undefined) throw new ConnectionLost();
        if (exitCode !== 0)
          throw guestFailed(
            `cannot take the job's files into ${directory}`,
            complaint() || `exit code ${exitCode}`,
          );
      } finally {
        discard(file);
      }
    },

    async carryOut(connection) {
      const file = archive('out');
      const unpacked = `${directory}.vmbatch-out`;
      try {
        rmSync(unpacked, { recursive: true, force: true });
        const command = await connection.exec(
          guestCommand(
            'cd -- "$1" && { [ -e "$2.diag" ] || : >"$2.diag"; } && exec tar -cf - -- "$2" "$2.diag"',
            [above, name],
          ),
        );
        const complaint = complaintOf(command);
        await connection.whileUp(pipeline(command.channel, createWriteStream(file, { mode: 0o600 })));
        const exitCode = await connection.whileUp(command.ended);
        if (exitCode === undefined) throw new ConnectionLost();
        if (exitCode !== 0)
          throw guestFailed(`cannot hand over ${directory}`, complaint() || `exit code ${exitCode}`);
        mkdirSync(unpacked, { mode: 0o700 });
        // Names and links that lead out of it are not followed: tar's own rule. Of what else there is nothing
        // is kept.
        await tar(run, ['-xf', file, '-C', unpacked, '--no-same-owner'], directory);
        if (!isKind(join(unpacked, name), 'folder') || !isKind(join(unpacked, `${name}.diag`), 'file'))
          throw guestFailed(`handed over something else than ${directory} and its .diag`);
        rmSync(directory, { recursive: true, force: true });
        renameSync(join(unpacked, name), directory);
        renameSync(join(unpacked, `${name}.diag`), `${directory}.diag`);
      } finally {
        discard(file);
        discard(unpacked);
      }
    },
  };
}

async function tar(run: Run, args: readonly string[], directory: string): Promise<void> {
  const result = await run('tar', args, { timeoutMs: TAR_TIMEOUT_MS });
  if (result.exitCode === 0) return;
  throw new VmbatchError({
    fault: result.notFound ? 'node' : 'site',
    code: 'staging-failed',
    message: `the job's files in ${directory} cannot be staged on the node: ${describeRun(result)}`,
    hint: `is the disk with ${dirname(directory)} full, or not the user's to write to?`,
  });
}

/** What cannot be removed must not hide why something failed before. */
function discard(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    // it is the user's own, beside their own files
  }
}

function isKind(path: string, kind: 'folder' | 'file'): boolean {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  return kind === 'folder' ? stats?.isDirectory() === true : stats?.isFile() === true;
}

function guestCommand(program: string, words: readonly string[]): string {
  return `exec /bin/sh -c ${shellQuote(`umask 077; ${program}`)} vmbatch ${words.map(shellQuote).join(' ')}`;
}

/** What a command says on stderr; the last of it is kept, it may be endless. */
function complaintOf({ channel }: RemoteCommand): () => string {
  let said = '';
  channel.stderr.on('data', (data: Buffer) => {
    said = (said + data.toString('latin1')).slice(-500);
  });
  return () => said.trim().split('\n').at(-1) ?? '';
}

function ignoreUnlessLost(error: unknown): void {
  if (error instanceof ConnectionLost) throw error;
}

const notStaged = (directory: string) =>
  new VmbatchError({
    fault: 'site',
    code: 'not-staged',
    message: `${directory} is not on the node: TORQUE has not staged the job's files there`,
    hint: "the mom's log says why: can it copy from the CE, and does the folder above exist and belong to everybody?",
  });

const guestFailed = (what: string, why?: string) =>
  new VmbatchError({
    fault: 'node',
    code: 'guest-staging-failed',
    message: `the guest ${what}${why === undefined ? '' : `: ${why}`}`,
    hint: 'does the image have tar and the scratch directory, with room in it and for everybody to write to?',
  });
