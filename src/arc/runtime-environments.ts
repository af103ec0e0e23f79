// Runtime environments (RTEs): what a job asks for and what the site adds, with the shell text that belongs to each.

/** One runtime environment of a job, in the order in which they run. Byte strings (latin1). */
export interface RuntimeEnvironment {
  /** Such as `ENV/PROXY`. */
  name: string;
  /** Passed to the script after the stage's number. */
  options: readonly string[];
  /** The script; undefined if it is empty: then it counts, and there is nothing to run. */
  script: string | undefined;
  /** `rte/params/NAME`: shell assignments that come before the script; undefined if there are none. */
  parameters: string | undefined;
}

/** `RUNTIME_*` and the other variables of ARC's job script that an RTE's stage 0 may have changed. Byte strings. */
export type RuntimeVariables = ReadonlyMap<string, string>;
