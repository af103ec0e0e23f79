import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  type FollowerOptions,
  ServerLogFollower,
} from '../../../../../src/batch/torque/server-log/follower.ts';
import { findLogEvents, parseLogLine } from '../../../../../src/batch/torque/server-log/server-log.ts';

const fixture = (name: string) =>
  readFileSync(new URL(`../../../../fixtures/torque/${name}`, import.meta.url));

/** `KIND ID` of every event, with what else it says. */
const told = (lines: Buffer) =>
  findLogEvents(lines).map(({ kind, jobId, by, exitStatus }) =>
    [kind, jobId, by, exitStatus].filter((part) => part !== undefined).join(' '),
  );

describe('findLogEvents', () => {
  it('finds the ends of the recorded log, and who deleted what', () => {
    const events = told(fixture('server_log.mixed.txt')).filter((event) => /^(ended|deleted) /.test(event));
    expect(events.slice(0, 7)).toEqual([
      'ended 64.vm 0',
      'ended 66.vm -2',
      'ended 65.vm 3',
      'deleted 69.vm alice@localhost',
      'deleted 72.vm root@localhost',
      'ended 69.vm 271',
      'ended 68.vm -11',
    ]);
  });

  it('tells the story of a job that was deleted in its prologue', () => {
    expect(told(fixture('server_log.qdel-during-prologue.txt'))).toEqual([
      'enqueued 38.vm',
      'started 38.vm',
      'deleted 38.vm root@localhost',
      'ended 38.vm 0',
      'dequeued 38.vm',
    ]);
  });

  it('sees a job that was purged, and none end in a loop of retries', () => {
    expect(told(fixture('server_log.qdel-p-running.txt')).at(-1)).toBe('dequeued 102.vm');
    const loop = told(fixture('server_log.prologue-exit-5-requeue-loop.txt'));
    expect(loop.filter((event) => !event.startsWith('started'))).toEqual(['enqueued 6.vm']);
  });

  it.each([
    [
      '11/22/2026 09:17:17.155;16;PBS_Server.8117;Job;64.vm;Exit_status=-11 resources_used.cput=12 resources_used.walltime=00:01:02 resources_used.mem=10kb',
      12,
    ],
    [
      '11/22/2026 09:17:17;0010;PBS_Server;Job;64.vm;Exit_status=-11 resources_used.cput=01:00:12 resources_used.walltime=62 resources_used.mem=10240b',
      3612,
    ],
  ])('reads %s', (line, cpuTime) => {
    const event = parseLogLine(line);
    expect(event).toMatchObject({
      kind: 'ended',
      jobId: '64.vm',
      exitStatus: -11,
      used: { cpuTime, wallTime: 62, memory: 10 },
    });
    const milliseconds = line.includes('.155') ? 155 : 0;
    expect(event?.time).toBe(new Date(2026, 10, 22, 9, 17, 17, milliseconds).getTime());
  });

  it.each([
    'x;08;PBS_Server.1;Job;1.vm;note;Exit_status=0',
    'x;16;PBS_Server.1;node;1.vm;Exit_status=0',
    'x;16;PBS_Server.1;Job;1.vm;Exit_status=oops',
    'x;256;PBS_Server.1;Job;1.vm;dequeuing 1.vm  from route, state QUEUED',
    ';Exit_status=0',
  ])('takes no notice of %s', (line) => {
    expect(findLogEvents(Buffer.from(`${line}\n`))).toEqual([]);
  });
});

describe('ServerLogFollower', () => {
  let directory: string;
  const path = (name: string) => join(directory, name);
  const line = (id: number) => `11/22/2026 09:00:00.000;16;PBS_Server.1;Job;${id}.vm;Exit_status=0\n`;
  const put = (name: string, ...ids: number[]) => appendFileSync(path(name), ids.map(line).join(''));
  const follow = (options: Partial<FollowerOptions> = {}) =>
    new ServerLogFollower({ directory, since: 0, ...options });
  const ids = (follower: ServerLogFollower, now?: number) => {
    const { events, problem } = follower.look(now);
    expect(problem).toBeUndefined();
    return events.map(({ jobId }) => Number.parseInt(jobId, 10));
  };

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'vmbatch-log-'));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  it('hands out each line once, and a line only when it is whole', () => {
    put('20261122', 1);
    const follower = follow();
    expect(ids(follower)).toEqual([1]);
    appendFileSync(path('20261122'), line(2).slice(0, 40));
    expect(ids(follower)).toEqual([]);
    appendFileSync(path('20261122'), line(2).slice(40));
    put('20261122', 3);
    expect(ids(follower)).toEqual([2, 3]);
    expect(ids(follower)).toEqual([]);
  });

  it('goes on where another one stopped', () => {
    put('20261122', 1, 2);
    const first = follow();
    ids(first);
    put('20261122', 3);
    put('20261123', 4);
    expect(ids(follow({ positions: first.positions }))).toEqual([3, 4]);
  });

  it('goes over to the next day, and still reads what comes into the old file', () => {
    put('20261122', 1);
    const follower = follow();
    ids(follower);
    put('20261123', 2);
    put('20261122', 3);
    expect(ids(follower)).toEqual([3, 2]);
    put('20261122', 4);
    expect(ids(follower)).toEqual([4]);
  });

  it('leaves an old file in the end, without ever reading it again', () => {
    put('20261122', 1);
    put('20261123', 2);
    const follower = follow();
    ids(follower);
    const later = Date.now() + 3_600_000;
    expect(ids(follower, later)).toEqual([]);
    expect(follower.positions.map(({ name }) => name)).toEqual(['20261123']);
    put('20261124', 3);
    expect(ids(follower, later + 10_000)).toEqual([3]);
    expect(ids(follow({ positions: follower.positions }), later + 20_000)).toEqual([]);
  });

  it('follows a full file under its new name', () => {
    put('20261122', 1);
    const follower = follow();
    ids(follower);
    put('20261122', 2);
    renameSync(path('20261122'), path('20261122.1'));
    put('20261122', 3);
    const seen = [...ids(follower), ...ids(follower)];
    expect(seen).toEqual([2, 3]);
    // So does one that was not there meanwhile.
    const { positions } = follower;
    put('20261122', 4);
    renameSync(path('20261122.1'), path('20261122.2'));
    renameSync(path('20261122'), path('20261122.1'));
    put('20261122', 5);
    const next = follow({ positions });
    expect([...ids(next), ...ids(next)]).toEqual([4, 5]);
  });

  it('starts again with a file that was cut off', () => {
    put('20261122', 1, 2);
    const follower = follow();
    ids(follower);
    truncateSync(path('20261122'), 0);
    put('20261122', 3);
    expect(ids(follower)).toEqual([3]);
  });

  it('reads a file that takes the place of one that was removed', () => {
    put('20261122', 1, 2);
    const follower = follow();
    ids(follower);
    writeFileSync(path('new'), line(3));
    renameSync(path('new'), path('20261122'));
    expect([...ids(follower), ...ids(follower)]).toEqual([3]);
  });

  it('leaves out at first what was written before it matters', () => {
    put('20261120', 1);
    utimesSync(path('20261120'), 1000, 1000);
    put('20261121', 2);
    expect(ids(follow({ since: 2_000_000 }))).toEqual([2]);
  });

  it('takes no other file for a log', () => {
    put('20261122', 1);
    put('20261122.gz', 2);
    put('notes', 3);
    expect(ids(follow())).toEqual([1]);
  });

  it('says so while there is nothing to read, and goes on when there is', () => {
    const follower = follow();
    expect(follower.look().problem).toBe(`${directory}: has no server logs`);
    rmSync(directory, { recursive: true });
    expect(follower.look().problem).toBe(`${directory}: cannot be read (ENOENT)`);
    mkdirSync(directory);
    put('20261122', 1);
    expect(ids(follower)).toEqual([1]);
  });

  it('reads a backlog in pieces, whatever stands in it', () => {
    const noise = `${'x'.repeat(3 * 1024 * 1024)}\n`;
    for (let id = 1; id <= 6; id++) appendFileSync(path('20261122'), noise + line(id));
    const follower = follow();
    const seen: number[] = [];
    let looks = 0;
    for (let more = true; more; looks++) {
      const reading = follower.look();
      more = reading.more;
      seen.push(...reading.events.map(({ jobId }) => Number.parseInt(jobId, 10)));
    }
    expect(seen).toEqual([1, 2, 3, 4, 5, 6]);
    expect(looks).toBeGreaterThan(1);
  });
});
