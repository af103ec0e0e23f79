// Jobs that cannot be deleted, over a day: time and programs are ours.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openControlDirectory } from '../../../../src/arc/control-directory.ts';
import { Absentees } from '../../../../src/ce/scan/absentees.ts';
import { EndSources } from '../../../../src/ce/scan/sources.ts';
import type { Run, RunResult } from '../../../../src/util/processes/run.ts';

const MINUTE = 60_000;
const START = 1_800_000_000_000;
const UID = process.geteuid?.() === 0 ? 65534 : (process.geteuid?.() ?? 1);
const RUNNING =
  '<Data><Job><Job_Id>1.vm</Job_Id><job_state>R</job_state><Job_Owner>alice@ce</Job_Owner><Error_Path>ce:/s/1.comment</Error_Path></Job></Data>';

let control: string;
let log: string[];
/** When qdel was called, minutes after the start. */
let deletions: number[];
let now: number;
/** How qdel, or what starts it, ends. */
let failure: Partial<RunResult>;
let absentees: Absentees;
let sources: EndSources;

const run: Run = async (file, args, { onStdout } = {}) => {
  const result: RunResult = {
    ...{ command: [file, ...args].join(' '), exitCode: 0, signal: undefined, stdout: '', stderr: '' },
    ...{ timedOut: false, cancelled: false, notFound: false, seconds: 0 },
  };
  if (file === 'qstat') onStdout?.(Buffer.from(RUNNING));
  if (file === 'id') result.stdout = `${UID}\n`;
  if (!args.includes('qdel') && file !== 'qdel') return result;
  deletions.push((now - START) / MINUTE);
  return { ...result, ...failure };
};

beforeEach(() => {
  control = mkdtempSync(join(tmpdir(), 'vmbatch-patience-'));
  for (const folder of ['processing', 'finished']) mkdirSync(join(control, folder));
  writeFileSync(join(control, 'finished/job.1.status'), 'FINISHED');
  log = [];
  deletions = [];
  failure = { exitCode: 159, stderr: 'qdel: Unauthorized Request  1.vm\n' };
  const said = new Map<string, string | undefined>();
  const shared = {
    torque: { binPath: undefined, run },
    signal: new AbortController().signal,
    complain: (about: string, complaint: string | undefined) => {
      if (complaint !== undefined && said.get(about) !== complaint) log.push(complaint);
      said.set(about, complaint);
    },
  };
  const directory = openControlDirectory(control);
  absentees = new Absentees({
    ...shared,
    directory,
    log: (line) => log.push(line),
    isWatched: () => false,
  });
  absentees.add([{ gridId: '1', localId: '1.vm', uid: UID, gid: UID, leftAt: START }]);
  sources = new EndSources({
    ...shared,
    logDirectory: undefined,
    positions: undefined,
    comparedAt: 0,
    intervalMs: 1,
  });
});
afterEach(() => rmSync(control, { recursive: true }));

async function live(minutes: number): Promise<void> {
  for (now = START; now <= START + minutes * MINUTE; now += MINUTE / 6) await absentees.check(sources, now);
}

it('tries to delete less and less often, says why once, and gives it up after a day', async () => {
  await live(25 * 60);
  const pauses = deletions.slice(1).map((time, at) => Math.round(time - (deletions[at] ?? 0)));
  expect(pauses.slice(0, 8)).toEqual([0, 1, 2, 4, 8, 16, 32, 60]);
  expect(pauses.at(-1)).toBe(60);
  expect(deletions.at(-1)).toBeLessThanOrEqual(24 * 60);
  expect(log).toEqual([
    'job 1: A-REX is done with it, but batch job 1.vm is still there: deleting it',
    expect.stringMatching(/^job 1: batch job 1.vm could not be deleted \(.*Unauthorized.*\); trying again$/),
    'job 1: its batch job could not be deleted for a day; delete it by hand: qdel 1.vm',
  ]);
  expect(absentees.saved).toEqual([]);
});

it.runIf(process.geteuid?.() === 0)('says what is missing where accounts cannot be changed', async () => {
  failure = { exitCode: undefined, notFound: true };
  await live(1);
  expect(log[1]).toContain('setpriv is not installed');
});
