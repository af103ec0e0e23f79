// Signals that wait: between qsub and the job id's place in the grami file there is no good moment to end.

const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;

/** Does `work` to its end, and then ends by the signal that came meanwhile. A-REX sends SIGTERM to a submit
 * when it is stopped; what comes after that cannot be held. */
export async function withHeldSignals<Result>(work: () => Promise<Result>): Promise<Result> {
  let came: NodeJS.Signals | undefined;
  const hold = (signal: NodeJS.Signals) => {
    came = signal;
  };
  for (const signal of SIGNALS) process.on(signal, hold);
  try {
    return await work();
  } finally {
    for (const signal of SIGNALS) process.off(signal, hold);
    if (came !== undefined) process.kill(process.pid, came);
  }
}
