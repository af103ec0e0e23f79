// vmbatch ssh JOBID [-- COMMAND ...]: a session in the guest of a job of this node
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { Command } from 'commander';
import tmp from 'tmp';
import { findJob } from '../node/debug/job.ts';
import { prepareSsh } from '../node/debug/ssh.ts';
import { DEFAULT_NODE_FILE, stateOf } from '../node/environment.ts';
import { errnoOf, VmbatchError } from '../util/errors.ts';

export async function main(argv: string[]): Promise<number> {
  let exitCode = 0;
  const program = new Command('vmbatch ssh')
    .exitOverride()
    .description("logs in to the guest of a job of this node, as the job's user; as root of the node")
    .argument('<JOBID>', 'the whole id, or its number')
    .argument('[COMMAND...]', "what to run instead of a session; one line for the guest's shell, as with ssh")
    .option('--config <FILE>', 'the node file', DEFAULT_NODE_FILE)
    .action(async (jobId: string, command: string[], options: { config: string }) => {
      const state = stateOf(options.config);
      const directory = tmp.dirSync({ prefix: 'vmbatch-ssh-', mode: 0o700, unsafeCleanup: true });
      try {
        exitCode = await runSsh(prepareSsh(state, findJob(state, jobId), directory.name, command));
      } finally {
        directory.removeCallback();
      }
    });
  await program.parseAsync(argv, { from: 'user' });
  return exitCode;
}

/** With our terminal; its signals go to ssh as well, which decides. */
function runSsh(args: readonly string[]): Promise<number> {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
  return new Promise((resolve, reject) => {
    const child = spawn('ssh', args, { stdio: 'inherit' });
    child.once('error', (error) =>
      reject(
        new VmbatchError({
          fault: 'node',
          code: 'ssh-missing',
          message: `ssh cannot be started (${errnoOf(error) ?? error.message})`,
          hint: 'install the OpenSSH client (openssh-client)',
          cause: error,
        }),
      ),
    );
    child.once('exit', (code, signal) =>
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
    );
  });
}
