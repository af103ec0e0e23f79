// The batch script as text, and run under every shell that a guest may have.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildBatchScript } from '../../../../src/arc/batch-script/batch-script.ts';
import { diagExitCode, diagValue } from '../../../../src/arc/diag.ts';
import { type Grami, loadGrami } from '../../../../src/arc/grami.ts';
import { decodeBytes, encodeBytes } from '../../../../src/arc/text.ts';
import { launchProgram } from '../../../../src/guest/session/remote-programs.ts';
import { readIfThere } from '../../../support/files.ts';
import { configure, ScriptBench, SHELLS } from './bench.ts';

const FIXTURES = new URL('../../../fixtures/arc/', import.meta.url).pathname;
const GOLDEN = new URL('../../../golden/ce/', import.meta.url).pathname;
const CONFIGURATION = configure();
const WITHOUT_TIME = { ...CONFIGURATION, gnuTime: '/nonexistent/time' };

it('a batch script that a guest has got from the node knows that it is in a guest', async () => {
  const bench = new ScriptBench(['/bin/sh'], 'vmbatch-script-');
  try {
    bench.reset();
    const directory = join(bench.root, 'vmbatch-7.vm');
    const program = launchProgram({
      directory,
      scriptName: '7.vm.SC',
      script: Buffer.from(buildBatchScript(bench.program('echo ran; exit 3'), CONFIGURATION), 'latin1'),
      scriptArguments: '',
      environment: { PATH: '/usr/bin:/bin', HOME: bench.root, PBS_JOBID: '7.vm' },
      nodeFile: undefined,
      umask: 0o77,
      limits: [],
      shell: '/bin/bash',
      login: false,
    });
    spawnSync('/bin/sh', ['-s'], { input: program });
    await expect.poll(() => readIfThere(join(directory, 'exit')), { timeout: 20_000 }).toMatch(/^3 0 0\n$/);
    expect(bench.file('std.out')).toBe('ran\n');
  } finally {
    bench.close();
  }
});

describe('buildBatchScript', () => {
  it.each(['jalien', 'hello', 'tricky', 'fail', 'full'])(
    'writes the script of the sample %s',
    async (sample) => {
      const script = buildBatchScript(loadGrami(`${FIXTURES}${sample}.grami`), CONFIGURATION);
      await expect(decodeBytes(script)).toMatchFileSnapshot(`${GOLDEN}${sample}.sh`);
    },
  );
});

describe.each(SHELLS)('the batch script under %s', (...shell) => {
  let bench: ScriptBench;
  let session: string;
  beforeAll(() => {
    bench = new ScriptBench(shell);
    session = bench.session;
  });
  afterAll(() => bench.close());
  beforeEach(() => bench.reset());
  const grami = (more: Partial<Grami> = {}) => bench.grami(more);
  const execute = (description: Grami, configuration = CONFIGURATION) =>
    bench.execute(buildBatchScript(description, configuration));
  const diag = () => bench.diag();
  const file = (name: string) => bench.file(name);
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
      ...['BASH_ALIASES', 'PIPESTATUS', 'BASH_SUBSHELL', 'BASH_COMPAT', 'BASH_XTRACEFD'].map((name) => ({
        name,
        value: '77',
      })),
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
    const name = spawnSync('/bin/hostname', ['-f']).stdout.toString().trim();
    expect(diagValue(diag(), 'nodename')).toBe(name);
    expect(bench.diagText()).toMatch(/^WallTime=\d+\.\d+s$/m);
    // A-REX's information system knows the name by its letters, and its accounting takes the last.
    expect(bench.diagText()).toMatch(/\nWallTime=\d+s\nexitcode=7\n$/);
    for (const [key, pattern] of Object.entries({
      Processors: /^1$/,
      WallTime: /^\d+s$/,
      PageSize: /^4096B$/,
      UserTime: /^\d+\.\d+s$/,
      KernelTime: /^\d+\.\d+s$/,
      MaxResidentMemory: /^[1-9]\d*kB$/,
      // The one that A-REX's information system takes for the memory that was used.
      AverageTotalMemory: /^[1-9]\d*kB$/,
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
    for (const key of ['WallTime', 'UserTime', 'KernelTime'])
      expect(bench.diagText()).toMatch(new RegExp(`^${key}=\\d+s$`, 'm'));
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
    [['./closed'], 1, 'Cannot run ./closed: ./plain: not found\n'],
  ])(
    'says why it cannot run %j, to whoever reads stderr and for the end of the job',
    (args, status, said) => {
      writeFileSync(join(session, 'plain'), '#!/bin/sh\n', { mode: 0o644 });
      writeFileSync(join(session, 'bad'), '#! /no/such/interpreter -x\n', { mode: 0o755 });
      writeFileSync(join(session, 'env'), '#!/usr/bin/env nosuchprogram\n', { mode: 0o755 });
      writeFileSync(join(session, 'closed'), '#!./plain\n', { mode: 0o755 });
      expect(execute(grami({ args })).status).toBe(status);
      expect([file('std.out'), file('std.err')]).toEqual(['', said]);
      expect(diagExitCode(diag())).toBe(status);
      expect(diagValue(diag(), 'LRMSMessage')).toBe(said.trimEnd());
    },
  );

  it("keeps what the job's environment makes of our own programs out of the job's stderr", () => {
    const environment = [
      { name: 'LD_PRELOAD', value: '/nonexistent.so' },
      { name: 'LC_ALL', value: 'xx_XX.UTF-8' },
    ];
    const complaint = /^ERROR: ld\.so: object '\/nonexistent\.so' .*\n$/;
    const result = execute(grami({ args: ['/bin/true'], environment }), WITHOUT_TIME);
    expect(result.status).toBe(0);
    expect(file('std.err')).toMatch(complaint);
    // Our own programs complain where they are linked dynamically: those of a static busybox cannot.
    const [program = '', ...options] = shell;
    const own = spawnSync(program, [...options, '-c', 'sh -c :'], { env: { LD_PRELOAD: '/nonexistent.so' } });
    expect(result.stderr.includes('/nonexistent.so')).toBe(own.stderr.includes('/nonexistent.so'));
    writeFileSync(join(session, 'bad'), '#!/no/such/interpreter\n', { mode: 0o755 });
    execute(grami({ args: ['./bad'], environment }));
    expect(file('std.err')).toBe('Cannot run ./bad: /no/such/interpreter: not found\n');
  });

  it('does not run a job whose stdin is not there', () => {
    const result = execute({ ...run('echo ran > ran'), stdin: 'none' });
    expect(result.status).not.toBe(0);
    expect(result.stderr.toString()).toContain('none');
    expect(existsSync(join(session, 'ran'))).toBe(false);
    expect(diagExitCode(diag())).toBe(result.status);
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
    for (const configuration of [WITHOUT_TIME, CONFIGURATION]) {
      const result = execute(run('exit 5'), configuration);
      expect(result.status).toBe(5);
      expect(result.stderr.toString()).toContain(`vmbatch: cannot write ${session}.diag`);
    }
  });

  it('does not run the executable outside of a guest, and says whose fault that is', () => {
    const script = buildBatchScript(run('echo ran > ran'), CONFIGURATION);
    // What a user may bring along with qsub -V from a guest.
    const environment = { vmbatch_guest: 'yes', VMBATCH_GUEST: 'yes', PBS_ENVIRONMENT: 'PBS_BATCH' };
    const result = bench.executeOnNode(script, environment);
    expect(result.status).toBe(251);
    expect(result.stderr.toString()).toMatch(
      /^vmbatch: node fault: the batch job was started on \S+ itself and not in a guest, so its executable was not run; /,
    );
    expect(existsSync(join(session, 'ran'))).toBe(false);
    expect(diagExitCode(diag())).toBe(251);
    expect(diagValue(diag(), 'LRMSMessage')).toBe(
      result.stderr.toString().replace('vmbatch: ', '').trimEnd(),
    );
    expect(diagValue(diag(), 'wninstance')).toBeUndefined();
    expect(diagValue(diag(), 'nodename')).not.toBeUndefined();
    // The same where the node has no session directories at all.
    rmSync(join(session, '..'), { recursive: true });
    const bare = bench.executeOnNode(script);
    expect(bare.status).toBe(251);
    expect(bare.stderr.toString()).toContain('vmbatch: node fault: the batch job was started on');
  });

  it('keeps stdout and stderr of runtime environments and of the job in their order, in one stream', () => {
    const { stdout: _none, ...rest } = run('echo 1; echo 2 >&2; echo 3; echo 4 >&2');
    const result = execute({ ...rest, stdout: undefined, stderr: undefined });
    expect(result.stdout.toString()).toBe('');
    expect(result.stderr.toString()).toBe('1\n2\n3\n4\n');
  });

  it('ends a job that is over its CPU time limit with a word, and lets a process say its last one', () => {
    const loop = 'while :; do :; done';
    const limited = { ...run(`trap 'echo over > over; exit 152' XCPU; ${loop}`), cpuTime: 1 };
    const result = execute(limited);
    expect(result.status).toBe(152);
    const said = 'Job was killed: one of its processes exceeded its CPU time limit of 1 s';
    expect(diagValue(diag(), 'LRMSMessage')).toBe(said);
    expect(result.stderr.toString()).toContain(`vmbatch: ${said}\n`);
    expect(file('over')).toBe('over\n');
    expect(execute({ ...run(loop), cpuTime: 1 }, WITHOUT_TIME).status).toBe(152);
    expect(diagValue(diag(), 'UserTime')).toMatch(/^[1-9]\d*s$/);
  });

  it('tells of a job that ran out of memory what the kernel of its guest has counted', () => {
    const vmstat = join(bench.root, 'vmstat');
    const kill = (code: number) => {
      writeFileSync(vmstat, 'nr_free_pages 1\noom_kill 3\n');
      const job = run(`printf 'nr_free_pages 1\\noom_kill 5\\n' > '${encodeBytes(vmstat)}'; exit ${code}`);
      return bench.execute(
        buildBatchScript(job, CONFIGURATION).replaceAll('/proc/vmstat', `'${encodeBytes(vmstat)}'`),
      );
    };
    const said = /out of memory: the guest, which has [1-9]\d* MB, killed 2 of its processes$/m;
    expect(kill(137).stderr.toString()).toMatch(said);
    expect(diagValue(diag(), 'LRMSMessage')).toMatch(/^Job exited with code 137, out of memory: the guest, /);
    expect(kill(0).stderr.toString()).toMatch(said);
    expect(diagValue(diag(), 'LRMSMessage')).toBeUndefined();
    expect(diagExitCode(diag())).toBe(0);
    // A kernel that does not count them.
    const job = run('exit 137');
    const script = buildBatchScript(job, CONFIGURATION).replaceAll('/proc/vmstat', '/nonexistent');
    expect(bench.execute(script).stderr.toString()).toBe('');
  });

  it.each([
    ['GNU time', CONFIGURATION],
    ['the shell', WITHOUT_TIME],
  ])('knows the CPU time of a job that was killed under %s', async (_title, configuration) => {
    const code = await bench.terminate(
      buildBatchScript(
        // Over a second of CPU time, by the shell's own record, however fast the machine is.
        run(
          'while read -r s </proc/$$/stat && set -- $s && shift 13 && [ $(($1 + $2)) -lt 150 ]; do :; done; ' +
            '(while :; do :; done) & echo up; wait',
        ),
        configuration,
      ),
      () => existsSync(join(session, 'std.out')) && file('std.out') !== '',
    );
    expect(code).toBe(143);
    const [user, kernel] = ['UserTime', 'KernelTime'].map((key) =>
      Number(/^(\d+)s$/.exec(diagValue(diag(), key) ?? '')?.[1] ?? Number.NaN),
    );
    expect((user ?? 0) + (kernel ?? 0)).toBeGreaterThan(0);
  });

  it('records the end of a job that was killed by SIGTERM', async () => {
    const code = await bench.terminate(
      buildBatchScript(run('echo up; exec sleep 60'), CONFIGURATION),
      () => existsSync(join(session, 'std.out')) && file('std.out') !== '',
    );
    expect(code).toBe(143);
    expect(diagExitCode(diag())).toBe(143);
  });

  it('does not start a job that is told to end before, and records that', async () => {
    const ready = join(bench.root, 'ready');
    rmSync(ready, { force: true });
    const slow = { ...CONFIGURATION, nodeNameCommand: `echo > '${ready}'; sleep 0.4; echo late` };
    const code = await bench.terminate(buildBatchScript(run('echo > ran'), slow), () => existsSync(ready));
    expect(code).toBe(143);
    expect(existsSync(join(session, 'ran'))).toBe(false);
    expect(bench.diagText()).toMatch(/^LRMSStartTime=\d{14}Z\n(.*\n)*exitcode=143\n$/m);
  });

  it('tells the node once for each slot, as TORQUE names it, and the nodes if the job asked for several', () => {
    const nodes = join(bench.root, 'nodes');
    writeFileSync(nodes, 'wn1\nwn1\nwn2\nwn2\n');
    const several = { ...run('true'), count: 4, countPerNode: 2, nodes: 2 };
    bench.execute(buildBatchScript(several, CONFIGURATION), { PBS_NODEFILE: nodes });
    expect(bench.diagText().match(/^nodename=.*$/gm)).toEqual([
      'nodename=wn1',
      'nodename=wn1',
      'nodename=wn2',
      'nodename=wn2',
    ]);
    expect(bench.diagText()).toMatch(/^Processors=4\nNodecount=2$/m);
    execute(run('true'), { ...CONFIGURATION, nodeNameCommand: 'echo "guest $(echo 1)"' });
    expect(bench.diagText()).toMatch(/^nodename=guest 1$/m);
    expect(bench.diagText()).not.toMatch(/Nodecount/);
  });

  it('measures with accounting cgroups where the guest has them', () => {
    const cgroup = join(bench.root, 'cgroup');
    const tools = join(bench.root, 'tools');
    for (const folder of [cgroup, tools]) mkdirSync(folder, { recursive: true });
    writeFileSync(
      join(tools, 'arc-job-cgroup'),
      `#!/bin/sh\necho "$@" >> '${cgroup}/calls'\n[ "$2" = -d ] || echo '${cgroup}'\n`,
      { mode: 0o755 },
    );
    writeFileSync(join(cgroup, 'memory.max_usage_in_bytes'), '2049\n');
    writeFileSync(join(cgroup, 'memory.memsw.max_usage_in_bytes'), '4096\n');
    writeFileSync(join(cgroup, 'cpuacct.usage_user'), '12345678901\n');
    writeFileSync(join(cgroup, 'cpuacct.stat'), 'user 1\nsystem 250\n');
    const result = bench.execute(buildBatchScript(run('exit 3'), CONFIGURATION), {
      PATH: `${tools}:/usr/bin:/bin`,
    });
    expect(result.status).toBe(3);
    for (const line of [
      'AverageTotalMemory=3kB',
      'maxtotalmemory=4kB',
      'maxresidentmemory=3kB',
      'averageresidentmemory=3kB',
      'UserTime=12s',
      'KernelTime=2s',
    ])
      expect(bench.diagText().split('\n')).toContain(line);
    expect(bench.diagText()).not.toContain('CPUUsage');
    expect(readFileSync(join(cgroup, 'calls'), 'utf8')).toBe('-m -n ID\n-c -n ID\n-m -d\n-c -d\n');
  });

  it("limits the job's address space to the virtual memory of its slots, and says when the disk is too small", () => {
    const limited = { ...run('ulimit -v'), virtualMemory: 4000, count: 2, disk: 10 ** 9 };
    const result = execute(limited, WITHOUT_TIME);
    expect(file('std.out')).toBe(`${4000 * 2 * 1024}\n`);
    expect(result.stderr.toString()).toMatch(
      /^vmbatch: the job asked for 1000000000 MB of disk, .*\/session\/ID has \d+ kB\n$/,
    );
    expect(execute({ ...run('true'), disk: 1 }).stderr.toString()).toBe('');
  });

  it('says that a node of its own cannot be had where the site does not say how much memory nodes have', () => {
    const job = { ...run('true'), exclusiveNode: true };
    expect(execute(job).stderr.toString()).toBe(
      'vmbatch: the job asked for a node of its own and may share one: its queue has no nodememory in arc.conf\n',
    );
    expect(execute(job, configure('', '', 'nodememory=1000')).stderr.toString()).toBe('');
  });

  it("hands over any argument and any variable's value, whatever bytes they hold", () => {
    const bytes = fc
      .uint8Array({ min: 1, maxLength: 40 })
      .map((found) => Buffer.from(found).toString('latin1'));
    fc.assert(
      fc.property(fc.array(bytes, { maxLength: 4 }), fc.array(bytes, { maxLength: 3 }), (args, values) => {
        const environment = values.map((value, index) => ({ name: `V${index}`, value }));
        execute(grami({ args: ['./dump', ...args], environment }), WITHOUT_TIME);
        const [gotArgs = '', ...rest] = readFileSync(join(session, 'seen'), 'latin1').split('\x01\x01');
        // An argument may hold the separator: the environment is behind the last one.
        const whole = [gotArgs, ...rest].join('\x01\x01');
        expect(whole.startsWith(`${args.join('\0')}\x01\x01`)).toBe(true);
        for (const { name, value } of environment)
          expect(`\0${whole.slice(args.join('\0').length + 2)}\0`).toContain(`\0${name}=${value}\0`);
      }),
      { numRuns: 15, interruptAfterTimeLimit: 3000 },
    );
  });
});
