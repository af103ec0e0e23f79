// The frame of the demo's and the site's programs: what ends them, and what they say then.
import { constants } from 'node:os';
import { formatError, toVmbatchError } from '../../src/util/errors.ts';
import { heedSignals, Interruption } from './interruption.ts';
import { failures } from './undo.ts';

/** The command line is wrong; the message says what, in one line. */
export class UsageError extends Error {}

let incomplete = false;

/** Prints what `Site.stop` has to say. After a signal it goes without saying that jobs had to be ended. */
export function reportStop(lines: string[], signal: AbortSignal): void {
  const failed = failures(lines);
  if (failed.length > 0) incomplete = true;
  for (const line of signal.aborted ? failed : lines) process.stderr.write(`vmbatch: ${line}\n`);
}

/** Runs `main` and ends the process with its exit code: 2 for a UsageError, as a shell's for the signal that
 * aborted `signal`, never 0 if `reportStop` had failures. `main` is expected to have cleaned up when it
 * returns or throws. */
export async function runProgram(
  main: (argv: string[], signal: AbortSignal) => Promise<number>,
  help: string,
): Promise<never> {
  const signal = heedSignals();
  let exitCode: number;
  let problem = '';
  try {
    exitCode = await main(process.argv.slice(2), signal);
  } catch (error) {
    exitCode = error instanceof UsageError ? 2 : 1;
    problem =
      error instanceof UsageError
        ? `vmbatch: ${error.message}\n${help.split('\n')[0]}`
        : formatError(toVmbatchError(error, 'node'));
  }
  if (signal.reason instanceof Interruption) {
    // Whatever failed, failed because of that.
    exitCode = signal.reason.exitCode;
    const rest = incomplete ? 'not all that was started is gone' : 'all that was started is gone';
    problem = `vmbatch: ${signal.reason.message}; ${rest}`;
  } else if (incomplete && exitCode === 0) exitCode = 1;
  if (problem !== '') process.stderr.write(`${problem}\n`);
  if (exitCode === 128 + constants.signals.SIGHUP) {
    // Node aborts when it ends by itself after its terminal has gone.
    process.removeAllListeners('SIGHUP');
    process.kill(process.pid, 'SIGHUP');
  }
  // Nothing that might still wait for an answer may keep the process.
  process.exit(exitCode);
}
