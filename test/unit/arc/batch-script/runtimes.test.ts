// Runtime environments in the guest: stage 1 before the executable, stage 2 after it.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildBatchScript } from '../../../../src/arc/batch-script/batch-script.ts';
import type { RuntimeEnvironment } from '../../../../src/arc/batch-script/runtime-environments.ts';
import { diagExitCode, diagValue } from '../../../../src/arc/diag.ts';
import type { Grami } from '../../../../src/arc/grami.ts';
import { configure, ScriptBench, SHELLS } from './bench.ts';

const CONFIGURATION = configure();
const ARC = '/usr/share/arc/rte';

const runtime = (name: string, script: string | undefined, more: Partial<RuntimeEnvironment> = {}) => ({
  name,
  options: [],
  script,
  parameters: undefined,
  ...more,
});
const arcRuntime = (name: string, parameters?: string): RuntimeEnvironment =>
  runtime(name, readFileSync(`${ARC}/${name}`, 'latin1'), { parameters });

describe.each(SHELLS)('runtime environments in a guest that has only %s', (...shell) => {
  let bench: ScriptBench;
  beforeAll(() => {
    // ARC's own do not quote the session directory.
    bench = new ScriptBench(shell, 'vmbatch-script-');
  });
  afterAll(() => bench.close());
  beforeEach(() => bench.reset());

  const run = (
    program: string,
    runtimes: RuntimeEnvironment[],
    more: Partial<Grami> = {},
    variables = new Map(),
  ) =>
    bench.execute(buildBatchScript(bench.program(program, more), CONFIGURATION, runtimes, variables), {
      PATH: bench.withoutBash,
    });

  it('run before and after the job in their order, with their parameters and options, and export what they set', () => {
    const script = 'echo "$NAME $@" >> order\nexport SET_BY_$NAME="$PARAMETER"\nkept=$NAME';
    const result = run('echo job >> order; env | grep ^SET_BY_', [
      runtime('ENV/A', script, {
        parameters: 'NAME="A"\nPARAMETER="from params"',
        options: [`it's`, '$HOME "x"'],
      }),
      runtime('ENV/EMPTY', undefined),
      runtime('ENV/B', `NAME=B\n[ "$1" = 1 ] || echo "after $RESULT, $kept" >> order\n${script}\n# no end`),
    ]);
    expect(result.stderr.toString()).toBe('');
    expect(result.status).toBe(0);
    expect(bench.file('order')).toBe(
      [`A 1 it's $HOME "x"`, 'B 1', 'job', `A 2 it's $HOME "x"`, 'after 0, A', 'B 2', ''].join('\n'),
    );
    expect(bench.file('std.out')).toMatch(/^SET_BY_A=from params\n/m);
    expect(bench.diagText()).toMatch(/^runtimeenvironments=ENV\/A;ENV\/EMPTY;ENV\/B;$/m);
  });

  it("know the job's places under ARC's names, and the job's exit code afterwards", () => {
    const names =
      'RUNTIME_JOB_DIR RUNTIME_JOB_DIAG RUNTIME_JOB_STDIN RUNTIME_JOB_STDOUT RUNTIME_JOB_STDERR HOME PWD';
    const script = `for name in ${names} RUNTIME_NODE_SEES_FRONTEND USERS GRID_GLOBAL_JOBID RESULT; do
      eval "echo $1 $name=\\$$name"; done >> seen`;
    expect(
      run('exit 4', [runtime('X', script)], { environment: [{ name: 'USERS', value: 'a b' }] }).status,
    ).toBe(4);
    const { session } = bench;
    const places = [
      ...[`RUNTIME_JOB_DIR=${session}`, `RUNTIME_JOB_DIAG=${session}.diag`, 'RUNTIME_JOB_STDIN=/dev/null'],
      ...[`RUNTIME_JOB_STDOUT=${session}/std.out`, `RUNTIME_JOB_STDERR=${session}/std.err`],
      ...[
        `HOME=${session}`,
        `PWD=${session}`,
        'RUNTIME_NODE_SEES_FRONTEND=yes',
        'USERS=a b',
        'GRID_GLOBAL_JOBID=ID',
      ],
    ];
    expect(bench.file('seen').trim().split('\n')).toEqual([
      ...[...places, 'RESULT=0'].map((line) => `1 ${line}`),
      ...[...places, 'RESULT=4'].map((line) => `2 ${line}`),
    ]);
    expect(diagExitCode(bench.diag())).toBe(4);
  });

  it.each([
    ['1', '[ "$1" != 1 ]', ''],
    ['2', '[ "$1" != 2 ]', 'job\n'],
  ])(
    'fail the job when stage %s fails (%s), and say so in its stderr and for the end of the job',
    (stage, script, output) => {
      const result = run('echo job; exit 0', [
        runtime('ENV/BAD-1', script),
        runtime('ENV/NEXT', 'echo "$1" >> next'),
      ]);
      expect(result.status).toBe(1);
      const said = `Runtime ENV/BAD-1 stage ${stage} execution failed.\n`;
      expect(result.stderr.toString()).toBe(said);
      expect(bench.file('std.err')).toBe(said);
      expect(diagValue(bench.diag(), 'LRMSMessage')).toBe(said.trimEnd());
      expect(bench.diagText()).toMatch(/\nexitcode=1\n$/);
      if (output !== '') expect(bench.file('std.out')).toBe(output);
      const next = join(bench.session, 'next');
      expect(existsSync(next) ? bench.file('next') : 'never').toBe(stage === '1' ? 'never' : '1\n');
    },
  );

  it.each([
    ['exit 0', 1],
    ['exit 9', 9],
    // How that ends is the shell's choice.
    ['if then fi', undefined],
  ])('do not make a job succeed that never ran: %s', (script, code) => {
    const result = run('echo job > ran', [runtime('QUITS', script)]);
    expect(result.status).not.toBe(0);
    if (code !== undefined) expect(result.status).toBe(code);
    expect(diagExitCode(bench.diag())).toBe(result.status);
    const said = 'Runtime QUITS stage 1 execution failed.';
    expect(result.stderr.toString()).toContain(`${said}\n`);
    expect(diagValue(bench.diag(), 'LRMSMessage')).toBe(said);
    expect(() => bench.file('ran')).toThrow('ENOENT');
  });

  it('are named when they end the job in stage 2, with the exit code that they chose', () => {
    const result = run('echo job', [runtime('ENV/QUITS', '[ "$1" = 1 ] || exit 9')]);
    expect(result.status).toBe(9);
    expect(bench.file('std.out')).toBe('job\n');
    expect(diagValue(bench.diag(), 'LRMSMessage')).toBe('Runtime ENV/QUITS stage 2 execution failed.');
  });

  it("may set the accounting's benchmark and instance in the guest, which then count", () => {
    run('true', [runtime('X', 'ACCOUNTING_BENCHMARK=HEPSPEC:23.5; ACCOUNTING_WN_INSTANCE=large')]);
    expect(bench.diagText()).toMatch(/benchmark=HEPSPEC:23\.5\nwninstance=large\n/);
    run('true', [], { benchmark: 'Si2k:3' }, new Map([['ACCOUNTING_WN_INSTANCE', 'from stage 0']]));
    expect(bench.diagText()).toMatch(/Benchmark=Si2k:3\nwninstance=from stage 0\n/);
  });

  it('may have put another program in front of the job on the CE, as ENV/SINGULARITY does', () => {
    const front = join(bench.session, 'front');
    writeFileSync(front, '#!/bin/sh\nfor word do echo "<$word>"; done; shift 3; exec "$@"\n', {
      mode: 0o755,
    });
    const words = ['./dump', "it's", 'a  b', '$HOME'];
    // The job's own words are quoted already, when a runtime environment gets to see them.
    const quoted = `'./dump' 'it'\\''s' 'a  b' '$HOME'`;
    const script = buildBatchScript(
      { ...bench.grami({ args: words }), commandLine: `${front} exec  --home \${RUNTIME_JOB_DIR} ${quoted}` },
      CONFIGURATION,
      [runtime('X', ':')],
    );
    expect(bench.execute(script, { PATH: bench.withoutBash }).status).toBe(0);
    const seen = ['exec', '--home', bench.session, ...words].map((word) => `<${word}>\n`).join('');
    expect(bench.file('std.out')).toBe(seen);
    expect(bench.file('seen').split('\x01\x01')[0]).toBe(words.slice(1).join('\0'));
  });

  it('let stage 2 run after a job that was told to end', async () => {
    const script = buildBatchScript(bench.program('echo up; exec sleep 60'), CONFIGURATION, [
      runtime('X', '[ "$1" = 1 ] || echo "$RESULT" > cleaned'),
    ]);
    const isUp = () => {
      try {
        return bench.file('std.out') !== '';
      } catch {
        return false;
      }
    };
    expect(await bench.terminate(script, isUp)).toBe(143);
    expect(bench.file('cleaned')).toBe('143\n');
    expect(diagExitCode(bench.diag())).toBe(143);
  });

  it.each([
    ['goes on', 'sleep 0.4; return 0'],
    ['fails', 'sleep 0.4; return 1'],
  ])('do not start a job that was told to end in a stage 1 that %s, and record that', async (how, stage) => {
    const script = buildBatchScript(bench.program('echo > ran'), CONFIGURATION, [
      runtime('X', `if [ "$1" = 1 ]; then echo > begun; ${stage}; fi; echo "$RESULT" > cleaned`),
    ]);
    expect(await bench.terminate(script, () => existsSync(join(bench.session, 'begun')))).toBe(143);
    expect(existsSync(join(bench.session, 'ran'))).toBe(false);
    if (how === 'goes on') expect(bench.file('cleaned')).toBe('143\n');
    expect(diagExitCode(bench.diag())).toBe(143);
  });

  it('may have functions of their own named as what the script uses to speak', () => {
    const result = run('true', [runtime('X', 'printf() { echo mine; }')], { args: ['./none'] });
    expect(result.status).toBe(1);
    expect(bench.file('std.err')).toBe('Path "./none" does not seem to exist\n');
    writeFileSync(join(bench.session, 'script'), '#!/bin/sh\nexit 6\n', { mode: 0o755 });
    expect(run('true', [runtime('X', 'printf() { echo mine; }')], { args: ['./script'] }).status).toBe(6);
  });

  it("run ARC's ENV/PROXY as it is: the proxy is known to the job, and the copied certificates go", () => {
    mkdirSync(join(bench.session, 'arc/certificates'), { recursive: true });
    writeFileSync(join(bench.session, 'user.proxy'), 'PROXY\n');
    const result = run('echo "$X509_USER_PROXY"; echo "$X509_CERT_DIR"; ls -d arc/certificates', [
      arcRuntime('ENV/PROXY', 'COPY_CACERT_DIR="Yes"\n'),
    ]);
    expect(result.stderr.toString()).toBe('');
    expect(bench.file('std.out')).toBe(
      `${bench.session}/user.proxy\n${bench.session}/arc/certificates\narc/certificates\n`,
    );
    expect(existsSync(join(bench.session, 'arc/certificates'))).toBe(false);
  });

  it("run ARC's ENV/CANDYPOND as it is: its tool is found, in a path that the job's environment adds to", () => {
    mkdirSync(join(bench.session, 'arc/bin'), { recursive: true });
    writeFileSync(join(bench.session, 'arc/bin/arccandypond'), '#!/bin/sh\necho "$ARC_CANDYPOND_URL"\n', {
      mode: 0o755,
    });
    run('arccandypond', [arcRuntime('ENV/CANDYPOND')], {
      environment: [{ name: 'ARC_CANDYPOND_URL', value: 'https://ce/arex/candypond' }],
    });
    expect(bench.file('std.out')).toBe('https://ce/arex/candypond\n');
  });

  it("run ARC's ENV/LRMS-SCRATCH as it is: the job runs in the directory that the guest's variable names", () => {
    const work = join(bench.root, 'work dir');
    mkdirSync(work, { recursive: true });
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the text that ENV/LRMS-SCRATCH sets on the CE
    const scratch = new Map([['RUNTIME_LOCAL_SCRATCH_DIR', '${WORKDIR}']]);
    const job = bench.program('pwd; echo "$TMPDIR"', { outputFiles: ['/'] });
    const script = buildBatchScript(
      job,
      CONFIGURATION,
      [arcRuntime('ENV/LRMS-SCRATCH', 'TMPDIR_LOCATION="$WORKDIR/tmp"\n'.replace('$WORKDIR', work))],
      scratch,
    );
    bench.execute(script, { PATH: bench.withoutBash, WORKDIR: work });
    expect(bench.file('std.out')).toBe(`${work}/ID\n${work}/tmp\n`);
    bench.execute(script, { PATH: bench.withoutBash });
    expect(bench.file('std.out')).toBe(`${bench.session}\n${work}/tmp\n`);
    // As in ARC, the job's own variable comes before the guest's.
    const environment = [{ name: 'WORKDIR', value: `${work}/of the $(job)` }];
    const own = buildBatchScript({ ...job, environment }, CONFIGURATION, [], scratch);
    bench.execute(own, { PATH: bench.withoutBash, WORKDIR: work });
    expect(bench.file('std.out')).toBe(`${work}/of the $(job)/ID\n\n`);
  });
});

describe('runtime environments in a guest with bash', () => {
  it('run under bash, as with ARC, whatever shell the script is started with', () => {
    const bench = new ScriptBench(['/bin/sh']);
    try {
      bench.reset();
      const script = buildBatchScript(bench.grami({ args: ['/bin/true'] }), CONFIGURATION, [
        runtime('X', 'words=(one two); [[ $1 == 1 ]] && cat <(echo "$words two") > seen; true'),
      ]);
      expect(bench.execute(script).stderr.toString()).toBe('');
      expect(bench.file('seen')).toBe('one two\n');
    } finally {
      bench.close();
    }
  });
});
