// Signals that end the demo or the site: they stop the work at its next step, never the cleaning up after it.
import { constants } from 'node:os';
import { errnoOf } from '../../src/util/errors.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** The reason of the AbortSignal of `heedSignals`. */
export class Interruption extends Error {
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals) {
    super(`stopped by ${signal}`);
    this.name = 'Interruption';
    this.signal = signal;
  }

  /** What a shell makes of a program that died of the signal: 130, 143, 129. */
  get exitCode(): number {
    return 128 + constants.signals[this.signal];
  }
}

/** From now on signals do not end the process: the first one aborts the returned signal, those after it (an
 * impatient Ctrl-C, the copy that npm passes on) change nothing. */
export function heedSignals(): AbortSignal {
  const controller = new AbortController();
  const interrupt = (signal: NodeJS.Signals) => controller.abort(new Interruption(signal));
  for (const signal of SIGNALS) process.on(signal, () => interrupt(signal));
  // A closed pipe must not end the cleaning up halfway; a closed terminal is what SIGHUP tells of.
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error) => {
      if (errnoOf(error) === 'EIO') interrupt('SIGHUP');
    });
  return controller.signal;
}
