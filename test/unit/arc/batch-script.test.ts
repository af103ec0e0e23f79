import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildBatchScript, type ScriptConfiguration, torqueJobName } from '../../../src/arc/batch-script.ts';
import { diagExitCode, diagValue, parseDiag } from '../../../src/arc/diag.ts';
import { type Grami, loadGrami, parseGrami } from '../../../src/arc/grami.ts';
import { decodeBytes, encodeBytes } from '../../../src/arc/text.ts';

const FIXTURES = new URL('../../fixtures/arc/', import.meta.url).pathname;
const GOLDEN = new URL('../../golden/ce/', import.meta.url).pathname;
const CONFIGURATION: ScriptConfiguration = {
  defaultQueue: 'main',
  image: 'demo',
  gnuTime: '/usr/bin/time',
  benchmark: () => 'HEPSPEC:1.0',
};
const WITHOUT_TIME = { ...CONFIGURATION, gnuTime: '/nonexistent/time' };

const SHELLS = [['/bin/sh'], ['/bin/bash'], ['/usr/bin/busybox', 'sh'], ['/bin/busybox', 'sh']].filter(
  ([path = '']) => existsSync(path),
);

const header = (changes: Partial<Grami>, configuration = CONFIGURATION) =>
  buildBatchScript({ ...loadGrami(`${FIXTURES}hello.grami`), ...changes }, configuration)
    .split('\n\n')[0]
    ?.split('\n')
    .slice(2);

describe('buildBatchScript', () => {
  it.each(['jalien', 'hello', 'tricky', 'fail', 'full'])(
    'writes the script of the sample %s',
    async (sample) => {
      const script = buildBatchScript(loadGrami(`${FIXTURES}${sample}.grami`), CONFIGURATION);
      await expect(decodeBytes(script)).toMatchFileSnapshot(`${GOLDEN}${sample}.sh`);
    },
  );

  it('asks for slots on one node if the job does not say how many on each', () => {
    expect(header({ count: 6 })).toEqual(
      expect.arrayContaining(['#PBS -l nodes=1:ppn=6', '#PBS -l mem=3000mb']),
    );
    expect(header({ count: 6 })?.at(-1)).toBe('#VMBATCH image=demo vcpus=6 memory=3000MiB');
  });

  it("gives the guest one node's share of a job on several nodes", () => {
    const lines = header({ count: 8, countPerNode: 4, nodes: 2 });
    expect(lines).toEqual(expect.arrayContaining(['#PBS -l nodes=2:ppn=4', '#PBS -l mem=4000mb']));
    expect(lines?.at(-1)).toBe('#VMBATCH image=demo vcpus=4 memory=2000MiB');
  });

  it('derives a walltime from CPU time alone', () => {
    expect(header({ cpuTime: 7261, wallTime: undefined })).toEqual(
      expect.arrayContaining(['#PBS -l cput=02:01:01', '#PBS -l walltime=02:01:01']),
    );
  });

  it('leaves image, memory and queue to the node and the server when nothing names them', () => {
    const lines = header(
      { memory: undefined, queue: undefined },
      { ...CONFIGURATION, image: undefined, defaultQueue: undefined },
    );
    expect(lines?.join('\n')).not.toMatch(/-q|mem=/);
    expect(lines?.at(-1)).toBe('#VMBATCH vcpus=1');
  });

  it('quotes a session directory with blanks and refuses one that TORQUE cannot be given', () => {
    expect(header({ sessionDirectory: '/srv/my jobs/ID' })).toContain("#PBS -e '/srv/my jobs/ID.comment'");
    expect(() => header({ sessionDirectory: "/srv/it's" })).toThrow(
      `TORQUE cannot be given the path "/srv/it's.comment"`,
    );
    expect(() => header({ sessionDirectory: '/srv/a:b' })).toThrow('TORQUE cannot be given the path');
  });

  it('refuses a queue that would add options', () => {
    expect(() => header({ queue: 'main -l nodes=9' })).toThrow(
      `found "main -l nodes=9", must be a queue's name`,
    );
  });

  it.each([
    ['JAliEn-1700000000000-0', 'JAliEn_17000000'],
    ["tricky 'name' $x é", 'tricky__name___'],
    ['1st', 'N1st'],
    ['日本', 'N__'],
    ['', 'vmbatch'],
  ])("names the job %j as ARC's pbs backend would: %s", (name, expected) => {
    expect(torqueJobName(encodeBytes(name))).toBe(expected);
  });
});

describe.each(SHELLS)('the batch script under %s', (...shell) => {
  let root: string;
  let session: string;
  let grami: (more?: Partial<Grami>) => Grami;

  beforeAll(() => {
    root = mkdtempSync(join(tmpdir(), 'vmbatch script é-'));
    chmodSync(root, 0o755);
  });
  afterAll(() => rmSync(root, { recursive: true, force: true }));
  beforeEach(() => {
    rmSync(join(root, 'session'), { recursive: true, force: true });
    session = join(root, 'session', 'ID');
    mkdirSync(session, { recursive: true });
    writeFileSync(`${session}.diag`, 'left=over\n');
    writeFileSync(
      join(session, 'dump'),
      `#!/usr/bin/perl
open my $out, '>', 'seen' or die; binmode $out;
print $out join("\\0", @ARGV), "\\1\\1", join("\\0", map { "$_=$ENV{$_}" } sort keys %ENV);
`,
      { mode: 0o755 },
    );
    const bytes = encodeBytes(session);
    grami = (more = {}) => ({
      ...parseGrami(
        `joboption_directory='${bytes}'\njoboption_controldir='/c'\njoboption_gridid='ID'\njoboption_arg_0='./dump'\n`,
        'g',
      ),
      ...{ stdout: `${bytes}/std.out`, stderr: `${bytes}/std.err` },
      ...more,
    });
  });

  const execute = (description: Grami, configuration = CONFIGURATION): SpawnSyncReturns<Buffer> => {
    const path = join(root, 'script');
    writeFileSync(path, buildBatchScript(description, configuration), { encoding: 'latin1', mode: 0o700 });
    const [program = '', ...options] = shell;
    return spawnSync(program, [...options, path], {
      cwd: root,
      env: { PATH: '/usr/bin:/bin', HOME: root, PBS_JOBID: '7.vm' },
    });
  };
  const diag = () => parseDiag(readFileSync(`${session}.diag`, 'latin1'));
  const file = (name: string) => readFileSync(join(session, name), 'utf8');
  const run = (...words: string[]) => grami({ args: ['/bin/sh', '-c', ...words] });

  it('hands over every argument and variable byte for byte', () => {
    const all = Buffer.from(Array.from({ length: 255 }, (_, index) => index + 1)).toString('latin1');
    const args = [
      '',
      '-n',
      "it's",
      all,
      '$HOME `id` $(id) "x" \\',
      'trailing ',
      encodeBytes('ünï–日本'),
      '\xff\xfe',
      '*',
      '\n',
    ];
    const environment = [
      { name: 'ALL', value: all.replaceAll(/[\n]/g, '') },
      { name: 'EMPTY', value: '' },
      { name: 'odd-name.1', value: "a'b" },
      { name: '1digit', value: 'x' },
      { name: 'IFS', value: 'abc' },
      { name: 'UID', value: '77' },
      { name: 'OPTIND', value: 'none' },
      { name: 'vmbatch_code', value: '9' },
      { name: 'vmbatch_time', value: 'gnu' },
      { name: 'HOME', value: '/elsewhere' },
      { name: 'PATH', value: '/nowhere' },
    ];
    for (const configuration of [CONFIGURATION, WITHOUT_TIME]) {
      const result = execute(grami({ args: ['./dump', ...args], environment }), configuration);
      expect(result.stderr.toString()).toBe('');
      expect(result.status).toBe(0);
      const [gotArgs = '', gotEnvironment = ''] = readFileSync(join(session, 'seen'), 'latin1').split(
        '\x01\x01',
      );
      expect(gotArgs.split('\0')).toEqual(args);
      const seen = gotEnvironment.split('\0');
      for (const { name, value } of environment)
        expect(seen).toContain(`${name}=${name === 'HOME' ? encodeBytes(session) : value}`);
      expect(seen).toContain('GRID_GLOBAL_JOBID=ID');
      expect(seen).toContain('PBS_JOBID=7.vm');
      rmSync(join(session, 'seen'));
    }
  });

  it("exits with the job's code and records it last, in a whole .diag", () => {
    const result = execute(run('echo out; echo err >&2; exit 7'));
    expect(result.status).toBe(7);
    expect(result.stdout.toString() + result.stderr.toString()).toBe('');
    expect([file('std.out'), file('std.err')]).toEqual(['out\n', 'err\n']);
    expect(statSync(join(session, 'std.out')).mode & 0o777).toBe(0o600);
    expect(readFileSync(`${session}.diag`, 'utf8')).toMatch(/\nexitcode=7\n$/);
    expect(diagExitCode(diag())).toBe(7);
    const hostname = spawnSync('uname', ['-n']).stdout.toString().trim();
    expect(diagValue(diag(), 'nodename')).toBe(hostname);
    for (const [key, pattern] of Object.entries({
      Processors: /^1$/,
      WallTime: /^\d+\.\d+s$/,
      UserTime: /^\d+\.\d+s$/,
      KernelTime: /^\d+\.\d+s$/,
      MaxResidentMemory: /^[1-9]\d*kB$/,
      LRMSStartTime: /^\d{14}Z$/,
      LRMSEndTime: /^\d{14}Z$/,
      usedscratch: /^\d+$/,
      systemsoftware: /\S/,
      wninstance: /^vmbatch:demo$/,
      benchmark: /^HEPSPEC:1.0$/,
    }))
      expect(diagValue(diag(), key), key).toMatch(pattern);
    expect(diagValue(diag(), 'left')).toBeUndefined();
  });

  it('measures with the shell where GNU time is not there', () => {
    const busy = 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exit 3';
    expect(execute(run(busy), WITHOUT_TIME).status).toBe(3);
    expect(diagValue(diag(), 'WallTime')).toMatch(/^\d+s$/);
    expect(diagValue(diag(), 'UserTime')).toMatch(/^\d+s$/);
    expect(diagValue(diag(), 'KernelTime')).toMatch(/^\d+s$/);
    expect(diagExitCode(diag())).toBe(3);
  });

  it('joins stdout and stderr, makes their folders, and reads a relative stdin', () => {
    writeFileSync(join(session, 'in put.dat'), 'from stdin\n');
    const out = `${encodeBytes(session)}/log dir/deep/std out.txt`;
    const result = execute({ ...run('cat; echo err >&2'), stdin: 'in put.dat', stdout: out, stderr: out });
    expect(result.status).toBe(0);
    expect(file('log dir/deep/std out.txt')).toBe('from stdin\nerr\n');
  });

  it("runs in the session directory, which is the job's HOME", () => {
    execute(run('pwd; echo "$HOME"'));
    expect(file('std.out')).toBe(`${session}\n${session}\n`);
  });

  it.each([
    [['./none'], 1, 'Path "./none" does not seem to exist\n'],
    [['./plain'], 126, 'Cannot run ./plain: it is not executable\n'],
    [['./bad'], 1, 'Cannot run ./bad: /no/such/interpreter: not found\n'],
    [['./env'], 1, 'Cannot run ./env: nosuchprogram: not found\n'],
  ])('says why it cannot run %j', (args, status, said) => {
    writeFileSync(join(session, 'plain'), '#!/bin/sh\n', { mode: 0o644 });
    writeFileSync(join(session, 'bad'), '#! /no/such/interpreter -x\n', { mode: 0o755 });
    writeFileSync(join(session, 'env'), '#!/usr/bin/env nosuchprogram\n', { mode: 0o755 });
    expect(execute(grami({ args })).status).toBe(status);
    expect(file('std.err')).toBe(said);
    expect(diagExitCode(diag())).toBe(status);
  });

  it('runs a script without an interpreter line, and a name without a slash from the session directory', () => {
    writeFileSync(join(session, 'bare'), 'echo ran "$@"\n', { mode: 0o755 });
    expect(execute(grami({ args: ['bare', 'a b'] })).status).toBe(0);
    expect(file('std.out')).toBe('ran a b\n');
  });

  it('fails with a clear line when the session directory is not there', () => {
    rmSync(session, { recursive: true });
    const result = execute(run('true'));
    expect(result.status).toBe(1);
    expect(result.stderr.toString()).toContain(`vmbatch: the session directory ${session} is not there on `);
  });

  it('still runs the job when the .diag cannot be written, and says so', () => {
    rmSync(`${session}.diag`);
    mkdirSync(`${session}.diag`);
    const result = execute(run('exit 5'), WITHOUT_TIME);
    expect(result.status).toBe(5);
    expect(result.stderr.toString()).toContain(`vmbatch: cannot write ${session}.diag`);
  });

  it('records the end of a job that was killed by SIGTERM', async () => {
    const path = join(root, 'script');
    writeFileSync(path, buildBatchScript(run('echo up; exec sleep 60'), CONFIGURATION), {
      encoding: 'latin1',
    });
    const [program = '', ...options] = shell;
    const child = spawn(program, [...options, path], { cwd: root, detached: true, stdio: 'ignore' });
    const ended = new Promise<number | null>((resolve) => child.on('exit', (code) => resolve(code)));
    for (let tries = 0; tries < 100 && !existsSync(join(session, 'std.out')); tries++) await setTimeout(20);
    await setTimeout(50);
    process.kill(-(child.pid ?? 0), 'SIGTERM');
    expect(await ended).toBe(143);
    expect(diagExitCode(diag())).toBe(143);
  });
});
