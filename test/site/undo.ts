// What has been started and must be stopped again, in reverse order, whatever fails on the way.

/** So long may one step take; what hangs must not keep the others from being undone. */
const STEP_MS = 10_000;

interface Step {
  /** As in `could not WHAT`. */
  what: string;
  /** May return lines that say what it had to end by force. */
  work: () => Promise<readonly string[] | undefined>;
}

export class Undo {
  readonly #steps: Step[] = [];
  #running: Promise<string[]> | undefined;

  /** To be called before the thing is started, so that nothing is ever without its undo; `work` must not mind
   * if there is nothing yet. */
  add(what: string, work: Step['work']): void {
    this.#steps.push({ what, work });
  }

  /** Runs all steps, once: who calls again waits for the same end. Returns a line for all that had to be
   * ended by force (`had to end …`) and all that failed (`could not …`). Never throws. */
  run(): Promise<string[]> {
    this.#running ??= this.#runSteps();
    return this.#running;
  }

  async #runSteps(): Promise<string[]> {
    const lines: string[] = [];
    for (const { what, work } of this.#steps.reverse()) {
      try {
        const ended = await within(work(), STEP_MS);
        lines.push(...(ended ?? []).map((line) => `had to end ${line}`));
      } catch (error) {
        lines.push(`${FAILED}${what}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    return lines;
  }
}

const FAILED = 'could not ';

/** The lines of `Undo.run` that tell of something that is still there. */
export function failures(lines: readonly string[]): string[] {
  return lines.filter((line) => line.startsWith(FAILED));
}

async function within<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end within ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
