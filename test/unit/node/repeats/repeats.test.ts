// A log that counts: a job that fails again and again in the same way leaves a few lines, and nothing new is
// ever held back.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openCountedLog, settleLog } from '../../../../src/node/environment.ts';
import { type CountedUnit, countedLog } from '../../../../src/node/repeats/counted-log.ts';
import { keyOf, memoryFile, QUIET_MS, readMemory } from '../../../../src/node/repeats/memory.ts';
import { type Log, type LogSink, textOf } from '../../../../src/util/log.ts';
import { NOBODY } from '../../../support/fake-hooks.ts';

const vmbatch = new URL('../../../../dist/vmbatch', import.meta.url).pathname;

let directory: string;
let repeats: string;
let now: number;
let lines: string[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-repeats-'));
  chmodSync(directory, 0o755);
  repeats = join(directory, 'repeats');
  now = Date.parse('2026-03-01T12:01:03Z');
  lines = [];
});
afterEach(() => rmSync(directory, { recursive: true }));

const sink = (): LogSink => ({
  write: (line) => lines.push(`${line.level} ${line.job} ${textOf(line)}`),
  close: async () => undefined,
});

/** One run of a hook, which says these lines: `error: text`. */
async function run(
  said: readonly string[],
  { job = '7.vm', unit = 'run' as CountedUnit, works = false } = {},
) {
  const log = countedLog(sink(), { job, unit, directory: repeats, now: () => now });
  say(log, said);
  if (works) log.succeeded();
  await log.close();
}

function say(log: Log, said: readonly string[]): void {
  for (const line of said) {
    const [level, text = ''] = line.split(': ');
    log.write(level as 'error', text);
  }
}

async function times(count: number, said: readonly string[], options: Parameters<typeof run>[1] = {}) {
  for (let number = 0; number < count; number++) {
    await run(said, options);
    now += 500;
  }
}

const FAILS = ['info: starting', 'error: no libvirt'];

describe('the log of a job that fails again and again', () => {
  it('tells of it the 1st, 2nd, 4th, 8th … time: one line for all that a run says', async () => {
    await times(9, FAILS);
    expect(lines).toEqual([
      'info 7.vm starting',
      'error 7.vm no libvirt',
      'error 7.vm no libvirt (2 times since 12:01:03)',
      'error 7.vm no libvirt (4 times since 12:01:03)',
      'error 7.vm no libvirt (8 times since 12:01:03)',
    ]);
  });

  it('tells of anything new at once and whole, and how often the old came', async () => {
    await times(6, FAILS);
    lines = [];
    await run(['info: starting', 'error: no image']);
    expect(lines).toEqual([
      'error 7.vm no libvirt (6 times from 12:01:03 to 12:01:05)',
      'info 7.vm starting (7 times since 12:01:03)',
      'error 7.vm no image',
    ]);
    lines = [];
    await run(FAILS);
    expect(lines, 'what it was before is counted anew').toEqual(['error 7.vm no libvirt']);
  });

  it('writes a new line before the run is over, since it may be killed', async () => {
    await times(3, FAILS);
    lines = [];
    const log = countedLog(sink(), { job: '7.vm', unit: 'run', directory: repeats, now: () => now });
    say(log, ['info: starting', 'warn: the clock is wrong']);
    expect(lines).toEqual([
      'error 7.vm no libvirt (3 times from 12:01:03 to 12:01:04)',
      'info 7.vm starting (4 times since 12:01:03)',
      'warn 7.vm the clock is wrong',
    ]);
  });

  it('is not filled by two failures that take turns', async () => {
    for (let turn = 0; turn < 30; turn++) {
      await run(FAILS);
      await run(['error: no image']);
      now += 500;
    }
    expect(lines.length).toBeLessThan(20);
  });

  it('takes each job by itself', async () => {
    await times(3, FAILS);
    lines = [];
    await run(FAILS, { job: '8.vm' });
    expect(lines).toEqual(['info 8.vm starting', 'error 8.vm no libvirt']);
  });

  it('begins anew after a quiet stretch, and tells what was not told', async () => {
    await times(3, FAILS);
    lines = [];
    now += QUIET_MS + 1_000;
    await run(FAILS);
    expect(lines).toEqual([
      'error 7.vm no libvirt (3 times from 12:01:03 to 12:01:04)',
      'info 7.vm starting',
      'error 7.vm no libvirt',
    ]);
  });

  it('forgets what works now', async () => {
    await times(3, FAILS);
    lines = [];
    await run(['info: starting', 'info: the guest is ready'], { works: true });
    expect(lines).toEqual([
      'info 7.vm starting (4 times since 12:01:03)',
      'info 7.vm the guest is ready',
      'error 7.vm no libvirt (3 times from 12:01:03 to 12:01:04)',
    ]);
    expect(readdirSync(repeats)).toEqual([]);
    lines = [];
    await run(['info: the guest is gone']);
    await run(['info: the guest is gone']);
    expect(lines).toHaveLength(2);
  });

  it('tells of it once an hour at least', async () => {
    for (let minute = 0; minute < 8 * 60; minute++) {
      await run(FAILS);
      now += 60_000;
    }
    const hours = lines.map((line) => Number(/\((\d+) times since/.exec(line)?.[1] ?? 1)).slice(-4);
    for (const [index, count] of hours.entries())
      if (index > 0) expect(count - (hours[index - 1] ?? 0)).toBeLessThanOrEqual(61);
    expect(lines.at(-1)).toContain('since 12:01:03)');
  });

  it('takes amounts and random names for the same, and lines of a file, names and codes not', () => {
    const key = (message: string) => keyOf({ level: 'error', message });
    for (const [one, other] of [
      ['3120 MiB of memory are free', '3119 MiB of memory are free'],
      ['no ready file within 2 s', 'no ready file within 12 s'],
      ['/ready/7.vm.0123456789abcdef01234567', '/ready/7.vm.9123456789abcdef01234567'],
      ['the load is 7.31, and', 'the load is 8, and'],
      ['[    1.234567] panic', '[    1.334567] panic'],
    ] as const)
      expect(key(one)).toBe(key(other));
    for (const [one, other] of [
      ['node.yaml:6:1: no known key', 'node.yaml:7:1: no known key'],
      ['10.0.2.2 is away', '10.0.2.3 is away'],
      ['virsh ended with 1', 'virsh ended with 2'],
      ['image alma8', 'image alma9'],
      ['7.vm is gone', '8.vm is gone'],
    ] as const)
      expect(key(one)).not.toBe(key(other));
  });

  it('counts each line by itself where it is no hook that writes', async () => {
    const said = ['error: job 1 is left', 'error: job 2 is left'];
    await times(4, said, { job: 'reap', unit: 'line' });
    expect(lines.filter((line) => line.includes('job 1'))).toHaveLength(3);
    expect(lines.filter((line) => line.includes('job 2'))).toHaveLength(3);
  });
});

describe.runIf(process.getuid?.() === 0)('the counts', () => {
  it.each<[string, (file: string) => void]>([
    ['broken', (file) => writeFileSync(file, '{"version":1,"said":[{"times":7}]}')],
    ['of another', (file) => chownSync(file, NOBODY.uid, NOBODY.gid)],
    ['too long', (file) => writeFileSync(file, ' '.repeat(1024 * 1024))],
    ['gone', (file) => rmSync(file)],
  ])('that are %s only mean that the next run is written whole', async (_what, harm) => {
    await times(3, FAILS);
    harm(memoryFile(repeats, '7.vm'));
    lines = [];
    await times(2, FAILS);
    expect(lines).toHaveLength(3);
  });

  it('that cannot be written mean that every line is', async () => {
    writeFileSync(repeats, '');
    await times(5, FAILS);
    expect(lines).toHaveLength(10);
  });

  it('are of a bounded size, whatever is said, and have the names of jobs only', async () => {
    for (let number = 0; number < 80; number++)
      await run([`error: ${number} ${'\u{1}ä'.repeat(1_500)}`], { job: '../../etc/7' });
    expect(lines).toHaveLength(80);
    const [name = '', ...others] = readdirSync(repeats);
    expect(others).toEqual([]);
    expect(statSync(join(repeats, name)).size).toBeLessThan(256 * 1024);
    expect(statSync(join(repeats, name)).mode & 0o777).toBe(0o600);
    for (let number = 0; number < 260; number++) await run(['error: x'], { job: `${number}.vm` });
    const past = new Date(Date.now() - 2 * QUIET_MS);
    for (const old of readdirSync(repeats)) utimesSync(join(repeats, old), past, past);
    await run(['error: x'], { job: '1000.vm' });
    expect(readdirSync(repeats)).toEqual(['job-1000.vm.json']);
  });

  it('are told by the reaper when the job comes no more, and removed', async () => {
    const log = join(directory, 'log');
    const open = () => openCountedLog(log, { job: '7.vm', state: directory, unit: 'run' });
    for (let number = 0; number < 3; number++) {
      const one = await open();
      one.write('error', 'no libvirt', { code: 'away' });
      await one.close();
    }
    await settleLog(log, directory);
    expect(readFileSync(join(log, 'vmbatch.log'), 'utf8').trim().split('\n')).toHaveLength(2);
    const past = new Date(Date.now() - 2 * QUIET_MS);
    utimesSync(memoryFile(repeats, '7.vm'), past, past);
    await settleLog(log, directory);
    const said = readFileSync(join(log, 'vmbatch.log'), 'utf8').trim().split('\n');
    expect(said.at(-1)).toMatch(/ error 7\.vm no libvirt \(3 times from \S+ to \S+\) code=away$/);
    const last = readFileSync(join(log, 'vmbatch.json'), 'utf8').trim().split('\n').at(-1) ?? '';
    expect(JSON.parse(last)).toMatchObject({
      ...{ message: 'no libvirt', times: 3, job: '7.vm', facts: { code: 'away' } },
      ...{ since: expect.any(String), until: expect.any(String) },
    });
    expect(readdirSync(repeats)).toEqual([]);
  });

  it('are beside the log where the state directory is of another node', async () => {
    const machine = { name: `not-${hostname()}`, id: 'f'.repeat(32), boot: 'x', hardware: [] };
    const owner = { version: 1, machine, since: 0 };
    writeFileSync(join(directory, 'owner.json'), JSON.stringify(owner), { mode: 0o644 });
    const log = await openCountedLog(join(directory, 'log'), { job: '7.vm', state: directory, unit: 'run' });
    log.write('error', 'no libvirt');
    await log.close();
    expect(readdirSync(join(directory, 'log/repeats'))).toEqual(['job-7.vm.json']);
    expect(existsSync(repeats)).toBe(false);
  });
});

describe.runIf(process.getuid?.() === 0)('a job whose start fails on the node', () => {
  const wordsFor = (jobId: string) => {
    const script = join(directory, 'jobs.SC');
    writeFileSync(script, '#!/bin/sh\n');
    chownSync(script, NOBODY.uid, NOBODY.gid);
    const places = ['--config', join(directory, 'node.yaml'), '--state', join(directory, 'state')];
    const words = [jobId, NOBODY.name, 'nogroup', 'job', 'nodes=1', 'vmalice', '', script];
    return ['prologue', ...places, ...words];
  };
  const options = () => {
    const nodes = join(directory, 'nodes');
    writeFileSync(nodes, 'wn1\n');
    return { cwd: directory, env: { ...process.env, PBS_NODEFILE: nodes } };
  };
  const start = (jobId: string) => spawnSync(vmbatch, wordsFor(jobId), { ...options(), encoding: 'utf8' });
  const logged = () => readFileSync(join(directory, 'log/vmbatch.log'), 'utf8').trim().split('\n');
  const nodeFile = (image: string) =>
    writeFileSync(
      join(directory, 'node.yaml'),
      `queues: [vmalice]
state: ${directory}/state
log: ${directory}/log
guard: { faults: 0 }
images: { demo: { path: ${directory}/${image} } }
share: { type: nfs, server: "10.0.2.2:/share", path: ${directory}/share }
`,
    );

  it('sixty times in a row leaves a dozen lines, and another reason is there at once', () => {
    mkdirSync(join(directory, 'state'), { mode: 0o711 });
    nodeFile('absent.qcow2');
    for (let number = 0; number < 60; number++) expect(start('7.vm').status).toBe(2);
    const sixty = logged();
    expect(sixty.length).toBeLessThanOrEqual(12);
    expect(sixty[0]).toMatch(/ error 7\.vm .*absent\.qcow2 cannot be read \(ENOENT\) .*code=image-absent/);
    expect(sixty.at(-1)).toMatch(
      /absent\.qcow2 cannot be read \(ENOENT\) \(32 times since \d\d:\d\d:\d\d\) /,
    );
    nodeFile('gone.qcow2');
    start('7.vm');
    const more = logged().slice(sixty.length);
    expect(more).toEqual([
      expect.stringMatching(/ error 7\.vm .*absent\.qcow2 .* \(60 times from \S+ to \S+\) /),
      expect.stringMatching(/ error 7\.vm .*gone\.qcow2 cannot be read \(ENOENT\) fault=node/),
    ]);
    start('8.vm');
    expect(logged().at(-1)).toMatch(/ error 8\.vm .*gone\.qcow2 cannot be read \(ENOENT\) fault=node/);
  }, 240_000);

  it('at the same moment several times is told, and counted in a whole file', async () => {
    mkdirSync(join(directory, 'state'), { mode: 0o711 });
    writeFileSync(join(directory, 'node.yaml'), 'queues: [vmalice]\nlgo: /tmp\n');
    start('6.vm');
    nodeFile('absent.qcow2');
    start('6.vm');
    writeFileSync(join(directory, 'node.yaml'), 'queues: [vmalice]\nlgo: /tmp\n');
    const codes = Array.from({ length: 6 }, async () => {
      const [code] = await once(spawn(vmbatch, wordsFor('7.vm'), { ...options(), stdio: 'ignore' }), 'exit');
      return code;
    });
    expect(await Promise.all(codes)).toEqual([2, 2, 2, 2, 2, 2]);
    expect(logged().filter((line) => / error 7\.vm .*lgo: is no known key/.test(line))).not.toEqual([]);
    expect(readMemory(memoryFile(join(directory, 'state/repeats'), '7.vm')).said).toEqual([
      expect.objectContaining({ level: 'error', message: expect.stringContaining('lgo') }),
    ]);
  }, 60_000);
});
