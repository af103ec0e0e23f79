// gm-kick tells A-REX to look at jobs now; without it a finished job waits for A-REX's next round.
import { existsSync } from 'node:fs';
import type { ControlDirectory } from '../arc/control-directory.ts';
import { describeRun, type Run } from '../util/run.ts';

/** Below the limit that Linux sets to a program's arguments, with ids of 60 characters. */
const IDS_A_CALL = 10_000;

/** The program, if this machine has it. ARC_LOCATION is set by A-REX. */
export function findGmKick(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const root = environment['ARC_LOCATION'] ?? '/usr';
  return [`${root}/lib/arc/gm-kick`, `${root}/lib64/arc/gm-kick`, `${root}/libexec/arc/gm-kick`].find(
    (path) => existsSync(path),
  );
}

/** One call for all jobs.
 * @returns what went wrong, for the log; A-REX finds the jobs by itself later */
export async function gmKick(
  run: Run,
  program: string,
  directory: ControlDirectory,
  gridIds: readonly string[],
): Promise<string | undefined> {
  let problem: string | undefined;
  for (let from = 0; from < gridIds.length; from += IDS_A_CALL) {
    const ids = gridIds.slice(from, from + IDS_A_CALL);
    const last = ids.at(-1) ?? '';
    const result = await run(program, [...ids.flatMap((id) => ['-j', id]), directory.kickPath(last)]);
    if (result.exitCode !== 0) problem = describeRun(result).slice(0, 300);
  }
  return problem;
}
