// One cell: a node with a job that runs besides, the event, what TORQUE does then, and what is left of it
// all.
import { spawn } from 'node:child_process';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type JobRecord, jobPaths, readRecord, writeRecord } from '../../src/node/record.ts';
import { FAULT_OUTCOMES, toVmbatchError } from '../../src/util/errors.ts';
import { type Cell, endsProcess, prologueEnds } from './cells.ts';
import { unwatch, watch } from './faults.ts';
import {
  arrive,
  epilogue,
  JOB,
  leave,
  leftovers,
  makePlace,
  type Place,
  prologue,
  reaper,
  starter,
  thingsOf,
} from './place.ts';

const BYSTANDER = '8.server';

export interface Result {
  cell: Cell;
  /** What is left, what was taken from the other job, and ends that are not as they should be; none: all is
   * well. */
  leaks: string[];
  /** False: the step has not so many effects as `during` asks for. */
  reached: boolean;
}

/** What the actor came to: an exit code, or the signal that it died of. */
type End = number | string;

/** @param actorProgram the bundled actor */
export async function runCell(cell: Cell, directory: string, actorProgram: string): Promise<Result> {
  const place = makePlace(directory);
  const seen = watch(directory);
  const leaks: string[] = [];
  let reached = true;
  const expect = (what: string, found: unknown, allowed: readonly unknown[]) => {
    if (!allowed.includes(found)) leaks.push(`${what}: ${String(found)}, not ${allowed.join(' or ')}`);
  };
  try {
    arrive(place, BYSTANDER);
    await prologue(place, BYSTANDER, false);
    const others = thingsOf(place, BYSTANDER).join('\n');
    arrive(place, JOB);
    const act = async () => {
      const end = await actIn(cell, place, actorProgram, seen);
      if (cell.event === 'SIGKILL') reached = end === 'SIGKILL';
      return end;
    };
    const ends: End[] = [];
    if (cell.actor === 'prologue') {
      const end = await act();
      expect('the prologue ended with', end, prologueEnds(cell));
      // TORQUE takes a signal for success. A job that is put back into the queue, and the end of a machine,
      // are no ends of the job.
      if (typeof end === 'string' && cell.event !== 'volatile') ends.push(await starter(place, JOB));
      if (end === 1) ends.push(1);
      const isOver = end !== 0 && end !== 2 && cell.event !== 'volatile';
      expect('ends of the job', ends.length, [isOver ? 1 : 0]);
      if (typeof end === 'string' && isOver)
        expect('the job ended with', ends[0], [FAULT_OUTCOMES.node.starterExit]);
    } else if (cell.actor === 'starter') {
      // A prologue that is killed there, which TORQUE takes for success.
      await actIn({ ...cell, actor: 'prologue', event: 'SIGKILL' }, place, actorProgram, seen);
      const end = await act();
      const own = cell.event === 'SIGTERM' ? ['SIGTERM', 250, 251] : ['SIGKILL'];
      // Its guest does not answer, or was never there.
      expect('the job ended with', end, endsProcess(cell.event) ? own : [FAULT_OUTCOMES.node.starterExit]);
    } else {
      await prologue(place, JOB, cell.step === 'peers');
      if (cell.actor === 'reaper') leave(place, JOB);
      await act();
    }
    if (cell.event === 'volatile') {
      for (const name of readdirSync(join(directory, 'hv'))) rmSync(join(directory, 'hv', name));
      for (const jobId of [JOB, BYSTANDER]) ageRecord(place, jobId);
    }
    const before = cell.actor === 'prologue' || cell.actor === 'starter';
    if (before) await epilogue(place, JOB).catch(() => false);
    const isQuiet = cell.event === 'SIGKILL' || cell.event === 'SIGTERM';
    if (before && isQuiet)
      leaks.push(
        ...thingsOf(place, JOB)
          // A lock that was about to be made is nobody's yet.
          .filter((path) => !path.includes('/leases/.new-'))
          .map((path) => `after the epilogue: ${path}`),
      );
    seen.diskFull = false;
    seen.shareHung = false;
    rmSync(join(directory, 'hv-gone'), { force: true });
    // After a power cut the mom still remembers the job, and no guest of it can live.
    if (cell.event !== 'volatile' || before) leave(place, JOB);
    await reaper(place);
    leaks.push(...thingsOf(place, JOB).map((path) => `left: ${path.slice(directory.length + 1)}`));
    if (cell.event !== 'volatile' && thingsOf(place, BYSTANDER).join('\n') !== others)
      leaks.push('the other job has lost something');
    await epilogue(place, BYSTANDER);
    leave(place, BYSTANDER);
    leaks.push(...leftovers(place).map((path) => `left: ${path}`), ...seen.violations);
  } catch (error) {
    leaks.push(`failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  } finally {
    unwatch(seen);
    rmSync(directory, { recursive: true, force: true });
  }
  return { cell, leaks: [...new Set(leaks)], reached };
}

/** As one of an earlier start of the machine. */
function ageRecord({ config }: Place, jobId: string): void {
  const paths = jobPaths(config.state, jobId);
  let record: JobRecord | undefined;
  try {
    record = readRecord(paths);
  } catch {
    // what the disk had not yet
  }
  if (record !== undefined) writeRecord(paths, { ...record, boot: 'an earlier one' });
}

async function actIn(
  cell: Cell,
  place: Place,
  program: string,
  seen: ReturnType<typeof watch>,
): Promise<End> {
  if (endsProcess(cell.event)) return runProcess(program, [place.directory, JSON.stringify(cell)]);
  const { step, phase, effect, actor } = cell;
  const strike = () => {
    if (cell.event === 'libvirtd-gone') writeFileSync(join(place.directory, 'hv-gone'), '');
    if (cell.event === 'disk-full') seen.diskFull = true;
    if (cell.event === 'share-hung') seen.shareHung = true;
  };
  seen.target = { side: actor === 'prologue' ? 'acquire' : 'release', step, phase, effect, strike };
  try {
    switch (actor) {
      case 'prologue':
        await prologue(place, JOB, step === 'peers');
        return 0;
      case 'epilogue':
        return (await epilogue(place, JOB)) ? 0 : 3;
      case 'reaper':
        await reaper(place);
        return 0;
      case 'starter':
        // It takes part in no step: what goes wrong has gone wrong when it comes.
        seen.target = undefined;
        seen.struck = true;
        strike();
        return await starter(place, JOB);
    }
  } catch (thrown) {
    return FAULT_OUTCOMES[toVmbatchError(thrown, 'node').fault].prologueExit;
  } finally {
    seen.target = undefined;
  }
}

function runProcess(program: string, args: string[]): Promise<End> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'inherit', 'inherit'] });
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(signal ?? code ?? -1));
  });
}
