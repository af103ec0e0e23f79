// Time without `performance` and node:timers/promises: Node loads those when they are first used, and a
// submission or a cancellation notices (1 to 2 ms of 40).

/** Milliseconds from some fixed moment; never goes back. */
export function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
}

/** @param milliseconds how long to wait */
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}
