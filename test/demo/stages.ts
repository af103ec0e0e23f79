// Stages that follow one another, each with its end as a promise: what goes on tells, what shows it waits.

export class Stages {
  readonly #ends = new Map<string, PromiseWithResolvers<void>>();
  readonly titles: readonly string[];
  #current: string | undefined;

  constructor(titles: readonly string[]) {
    this.titles = titles;
    for (const title of titles) {
      const end = deferred();
      // Whoever shows the stages may never come to this one.
      end.promise.catch(() => undefined);
      this.#ends.set(title, end);
    }
  }

  /** All stages before this one are over. */
  begin(title: string): void {
    this.#current = title;
    for (const earlier of this.titles) {
      if (earlier === title) return;
      this.#ends.get(earlier)?.resolve();
    }
  }

  /** All stages are over. */
  finish(): void {
    for (const end of this.#ends.values()) end.resolve();
  }

  /** The stage under way has failed, and none follows. */
  fail(error: unknown): void {
    const at = this.titles.indexOf(this.#current ?? '');
    for (const title of this.titles.slice(Math.max(at, 0))) this.#ends.get(title)?.reject(error);
  }

  ended(title: string): Promise<void> {
    return this.#ends.get(title)?.promise ?? Promise.resolve();
  }
}

interface PromiseWithResolvers<T> {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (reason: unknown) => void;
}

function deferred(): PromiseWithResolvers<void> {
  let resolve: () => void = () => undefined;
  let reject: (reason: unknown) => void = () => undefined;
  const promise = new Promise<void>((whenDone, whenFailed) => {
    resolve = whenDone;
    reject = whenFailed;
  });
  return { promise, resolve, reject };
}
