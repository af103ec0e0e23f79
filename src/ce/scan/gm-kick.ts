// gm-kick tells A-REX to look at jobs now; without it a finished job waits for A-REX's next round.
import { existsSync } from 'node:fs';
import type { ControlDirectory } from '../../arc/control-directory.ts';
import type { Torque } from '../../batch/torque/commands.ts';
import { describeRun } from '../../util/processes/run.ts';
import type { Complain } from './sources.ts';

/** Below the limit that Linux sets to a program's arguments, with ids of 60 characters. */
const IDS_A_CALL = 10_000;

/** The program, if this machine has it. ARC_LOCATION is set by A-REX. */
export function findGmKick(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const root = environment['ARC_LOCATION'] ?? '/usr';
  return [`${root}/lib/arc/gm-kick`, `${root}/lib64/arc/gm-kick`, `${root}/libexec/arc/gm-kick`].find(
    (path) => existsSync(path),
  );
}

/** Jobs that A-REX is to be told of. */
export class Kicks {
  readonly #options: KicksOptions;
  readonly #waiting = new Map<ControlDirectory, string[]>();

  constructor(options: KicksOptions) {
    this.#options = options;
  }

  add(directory: ControlDirectory, gridIds: readonly string[]): void {
    if (gridIds.length > 0)
      this.#waiting.set(directory, [...(this.#waiting.get(directory) ?? []), ...gridIds]);
  }

  /** Whether the scan was told to end before A-REX was told of all. */
  get isUnsent(): boolean {
    return this.#waiting.size > 0;
  }

  /** One call for all jobs of a control directory. What goes wrong is for the log: A-REX finds the jobs by
   * itself, later. */
  async send(): Promise<void> {
    if (this.#waiting.size === 0) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    const program = this.#options.gmKick ?? findGmKick();
    if (program === undefined) return;
    for (const [directory, gridIds] of waiting)
      for (let from = 0; from < gridIds.length; from += IDS_A_CALL)
        await this.#kick(program, directory, gridIds.slice(from, from + IDS_A_CALL));
  }

  async #kick(program: string, directory: ControlDirectory, gridIds: readonly string[]): Promise<void> {
    const { torque, signal, complain } = this.#options;
    const args = [...gridIds.flatMap((id) => ['-j', id]), directory.kickPath(gridIds.at(-1) ?? '')];
    const result = await torque.run(program, args, { signal });
    if (result.cancelled) this.add(directory, gridIds);
    else complain('gm-kick', result.exitCode === 0 ? undefined : describeRun(result).slice(0, 300));
  }
}

interface KicksOptions {
  torque: Torque;
  signal: AbortSignal;
  complain: Complain;
  /** The program; undefined: as `findGmKick` says. */
  gmKick?: string | undefined;
}
