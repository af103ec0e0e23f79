// The table of mistakes: each row plants one in a set-up that is otherwise good, and says what the first
// person who looks reads then.
import { describe, expect, it } from 'vitest';

/** What somebody sees who looks. */
export interface Sight {
  /** Where it stands: `check node`, `vmbatch.log`, `lrms_done`. */
  where: string;
  /** The first thing that is said of anything wrong there, with its advice; empty if nothing is. */
  text: string;
  /** Of the program that was looked with, or that the job ended with. */
  exit: number | undefined;
}

/** A row of the table. */
export interface Mistake<Ground> {
  /** What somebody has done wrong, or what has broken: a sentence without its end. */
  mistake: string;
  /** Does it. What it returns takes it back, where the set-up outlives the row. */
  plant: (ground: Ground) => unknown;
  /** Who looks first, and where. */
  look: (ground: Ground) => Promise<Sight>;
  /** What leads to the cause; all of it stands in what is seen first. */
  text: RegExp | readonly RegExp[];
  exit: number;
}

/** What the reporter prints of a row. */
export interface SeenMistake extends Sight {
  mistake: string;
  group: string;
}

declare module 'vitest' {
  interface TaskMeta {
    mistake?: SeenMistake;
  }
}

/** What nobody may read of an ordinary mistake: that it is ours, or where in our program we noticed it. */
const NOT_OURS = /bug fault|please report|unexpected failure|^\s+at .*:\d+:\d+\)?$/m;

/** Makes a test of each row.
 * @param ground the set-up in which all is well; asked for after `beforeEach` */
export function mistakes<Ground>(
  group: string,
  ground: () => Ground,
  rows: readonly Mistake<Ground>[],
): void {
  // What is wrong with owners and modes shows to others than root.
  describe.runIf(process.geteuid?.() === 0)(`mistakes: ${group}`, () => {
    for (const row of rows)
      it(row.mistake, async ({ task }) => {
        const here = ground();
        const takeBack = await row.plant(here);
        try {
          const seen = await row.look(here);
          task.meta.mistake = { mistake: row.mistake, group, ...seen };
          for (const part of row.text instanceof RegExp ? [row.text] : row.text)
            expect(seen.text).toMatch(part);
          expect(seen.text).not.toMatch(NOT_OURS);
          expect(seen.exit).toBe(row.exit);
        } finally {
          if (typeof takeBack === 'function') await takeBack();
        }
      });
  });
}
