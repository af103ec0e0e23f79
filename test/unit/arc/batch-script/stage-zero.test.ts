import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { resolveRuntimes } from '../../../../src/arc/batch-script/runtime-environments.ts';
import { runStageZero, type StageZeroEnd } from '../../../../src/arc/batch-script/stage-zero.ts';
import { parseArcConfiguration } from '../../../../src/arc/configuration/configuration.ts';
import { loadGramiAndValues } from '../../../../src/arc/grami.ts';
import { shellQuote } from '../../../../src/util/quote.ts';
import { readIfThere } from '../../../support/files.ts';

const ARC_SCRIPTS = '/usr/share/arc';

let root: string;
let logged: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'vmbatch-stage-zero-'));
  mkdirSync(join(root, 'session'));
  logged = '';
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Puts a runtime environment in place as `arcctl rte` does: a link in `enabled` or `default`. */
function provide(name: string, script: string, where: 'enabled' | 'default' = 'enabled'): void {
  const target = join(root, 'share', name.replaceAll('/', '_'));
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, script, 'latin1');
  const link = join(root, 'rte', where, name);
  mkdirSync(dirname(link), { recursive: true });
  symlinkSync(target, link);
}

function setParameters(name: string, text: string): void {
  mkdirSync(dirname(join(root, 'rte/params', name)), { recursive: true });
  writeFileSync(join(root, 'rte/params', name), text);
}

interface Asked {
  config?: ReadonlyMap<string, string>;
  /** ARC 7 has the files of each job in folders of their own. Default: no. */
  nested?: boolean;
  runtimes?: (string | readonly string[])[];
  more?: string;
  shell?: readonly string[];
  timeoutMs?: number;
  variables?: Record<string, string>;
  configurationFile?: string;
}

/** A job that asks for these runtime environments (a name, or a name and its options), after their stage
 * 0. */
async function stageZero({
  runtimes = [],
  more = '',
  variables = {},
  nested = false,
  ...options
}: Asked = {}): Promise<StageZeroEnd> {
  const file = join(root, nested ? 'jobs/012/345/678/9ab/grami' : 'job.ID.grami');
  mkdirSync(dirname(file), { recursive: true });
  const asked = runtimes.flatMap((runtime, index) => {
    const [name = '', ...given] = typeof runtime === 'string' ? [runtime] : runtime;
    return [
      `joboption_runtime_${index}=${shellQuote(name)}`,
      ...given.map((option, at) => `joboption_runtime_${index}_${at + 1}=${shellQuote(option)}`),
    ];
  });
  const text = `joboption_directory=${shellQuote(join(root, 'session'))}
joboption_controldir=${shellQuote(root)}
joboption_gridid='${nested ? '0123456789ab' : 'ID'}'
joboption_arg_0='./job.sh'
joboption_env_0='A=1'
joboption_count=1
${asked.join('\n')}
${more}`;
  writeFileSync(file, text, 'latin1');
  const { grami, values } = loadGramiAndValues(file);
  return await runStageZero({
    grami,
    values,
    runtimes: resolveRuntimes(grami.runtimes, grami.controlDirectory),
    variables: new Map(Object.entries(variables)),
    configurationFile: '/run/arex.cfg',
    log: (chunk) => {
      logged += Buffer.from(chunk).toString('latin1');
    },
    ...options,
  });
}

const SHELLS = [['/bin/dash'], ['/bin/bash', '--posix'], ['/bin/bash'], ['/bin/busybox', 'sh']].filter(
  ([program = '']) => existsSync(program),
);

describe.each(SHELLS.map((shell) => [shell.join(' '), shell] as const))('stage 0 with %s', (_, shell) => {
  it('runs what the job asks for in its order, then the defaults, each with parameters and options', async () => {
    for (const [name, where] of [
      ['B', 'enabled'],
      ['APPS/A-1.0', 'enabled'],
      ['D', 'default'],
      ['C', 'default'],
    ] as const)
      provide(
        name,
        `RUNTIME_SEEN="\${RUNTIME_SEEN}${name}($*)\${FROM_PARAMETERS-};"; unset FROM_PARAMETERS\n`,
        where,
      );
    setParameters('APPS/A-1.0', 'FROM_PARAMETERS="two words"\n');
    const { variables } = await stageZero({ runtimes: ['B', ['APPS/A-1.0', "it's", '$(id)', '']], shell });
    expect(variables.get('RUNTIME_SEEN')).toBe("B(0);APPS/A-1.0(0 it's $(id) )two words;C(0);D(0);");
  });

  it('hands on every byte, in both directions', async () => {
    const bytes = Buffer.from(Array.from({ length: 255 }, (_unused, index) => index + 1)).toString('latin1');
    provide('ENV/X', 'joboption_arg_2="<$joboption_arg_1>"\nRUNTIME_OPTION=$2\n');
    const { grami, variables } = await stageZero({
      runtimes: [['ENV/X', bytes]],
      more: `joboption_arg_1=${shellQuote(bytes)}\n`,
      shell,
    });
    expect(grami.args).toEqual(['./job.sh', bytes, `<${bytes}>`]);
    expect(variables.get('RUNTIME_OPTION')).toBe(bytes);
    expect(grami.runtimes[0]?.options).toEqual([bytes]);
  });

  it('passes by a dummy, a link to /dev/null, asked for or by default', async () => {
    provide('ENV/X', 'RUNTIME_X=ran\n');
    for (const [where, name] of [
      ['enabled', 'DUMMY'],
      ['default', 'EVERY'],
    ] as const) {
      mkdirSync(join(root, 'rte', where), { recursive: true });
      symlinkSync('/dev/null', join(root, 'rte', where, name));
    }
    const { variables } = await stageZero({ runtimes: ['DUMMY', 'ENV/X'], shell });
    expect(variables.get('RUNTIME_X')).toBe('ran');
  });

  it('tells of one that another asked for and that is a folder, that it is missing', async () => {
    provide('ENV/X', 'joboption_runtime_1=ENV\n');
    await expect(stageZero({ runtimes: ['ENV/X'], shell })).rejects.toMatchObject({
      code: 'runtime-environment-missing',
    });
  });

  it('is not misled by values that look like variables', async () => {
    provide(
      'ENV/X',
      `joboption_arg_1='\njoboption_queue=evil\nRUNTIME_GHOST=1\nRUNTIME_$(touch ${root}/ran)=1\n'\n`,
    );
    const { grami, variables } = await stageZero({ runtimes: ['ENV/X'], shell });
    expect(grami.args[1]).toBe(`\njoboption_queue=evil\nRUNTIME_GHOST=1\nRUNTIME_$(touch ${root}/ran)=1\n`);
    expect(grami.queue).toBeUndefined();
    expect(variables.has('RUNTIME_GHOST')).toBe(false);
    expect(existsSync(join(root, 'ran'))).toBe(false);
  });

  it('tells what a runtime environment returned, and the last that it said', async () => {
    provide('ENV/X', 'echo to the log\necho why >&2\nreturn 3\n');
    await expect(stageZero({ runtimes: ['ENV/X'], shell })).rejects.toMatchObject({
      fault: 'job',
      message: 'the runtime environment "ENV/X", stage 0, failed with code 3: why',
    });
    expect(logged).toBe('to the log\nwhy\n');
  });

  it.each([
    ['exits', 'exit 4\n', 'ended the shell with exit code 4'],
    ['exits as if all were well', 'exit 0\n', 'ended the shell with exit code 0'],
    ['is no shell script', 'if; then (\n', 'ended the shell with exit code 2'],
    ['kills its shell', 'kill -9 $$\n', 'died of SIGKILL (9)'],
  ])('fails one that %s', async (_title, script, expected) => {
    provide('ENV/X', script);
    provide('ENV/Y', ': > ran\n');
    // bash goes on after a script that it cannot parse, with code 1 or 2.
    const error = await stageZero({ runtimes: ['ENV/X', 'ENV/Y'], shell }).catch((thrown: Error) => thrown);
    expect(error).toBeInstanceOf(Error);
    const message = error instanceof Error ? error.message : '';
    expect(message).toMatch(/^the runtime environment "ENV\/X", stage 0, /);
    if (!script.startsWith('if')) expect(message).toContain(expected);
  });

  it('survives what a script sets for its shell', async () => {
    provide('ENV/X', 'set -e -f -u\nIFS=oj_\ncd /\ni=7; script=none\n');
    provide('ENV/Y', 'RUNTIME_Y="ran $UNSET_VARIABLE$(pwd)"; false; true\n');
    const { grami, variables } = await stageZero({ runtimes: ['ENV/X', 'ENV/Y'], shell });
    expect(variables.get('RUNTIME_Y')).toBe('ran /');
    expect(grami.args).toEqual(['./job.sh']);
  });

  it.each([
    ['flat', false, 'job.ID.proxy'],
    ['nested', true, 'jobs/012/345/678/9ab/proxy'],
  ])(
    'finds the files of a job in a %s control directory, as ARC 7 asks for them',
    async (_title, nested, path) => {
      provide(
        'ENV/X',
        `proxy=$(control_path "\${joboption_controldir}" "\${joboption_gridid}" "proxy")
define_failures_file
RUNTIME_X="$proxy|$failures_file|$(cat "$proxy")"
`,
      );
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), 'the proxy');
      const { variables, complaints } = await stageZero({ runtimes: ['ENV/X'], nested, shell });
      expect(variables.get('RUNTIME_X')).toBe(
        [join(root, path), join(root, path.replace('proxy', 'failed')), 'the proxy'].join('|'),
      );
      expect(complaints).toEqual([]);
    },
  );

  it.runIf(existsSync(ARC_SCRIPTS))(
    "lets runtime environments call ARC's functions, with ARC's effect",
    async () => {
      provide(
        'ENV/X',
        `IFS=i
is_number 12 && ! is_number 1x && ! is_number '' && RUNTIME_NUMBER=yes
joboption_memory=; CONFIG_defaultmemory=700
set_req_mem
joboption_stdin=/dev/null
include_std_streams
sourcewithargs "$rte_params_path" 'two words'
RUNTIME_X="$joboption_memory$input_redirect $rte_name"
`,
      );
      setParameters('ENV/X', `[ -z "\${1:-}" ] || RUNTIME_ARGUMENT=$1\n`);
      const { variables, complaints } = await stageZero({ runtimes: ['ENV/X'], shell });
      expect(variables.get('RUNTIME_NUMBER')).toBe('yes');
      expect(variables.get('RUNTIME_ARGUMENT')).toBe('two words');
      expect(variables.get('RUNTIME_X')).toBe('700<$RUNTIME_JOB_STDIN ENV/X');
      expect(complaints.map(({ name }) => name)).toEqual(['ENV/X']);
    },
  );

  it('tells what runtime environments said on stderr and of whom it is, not what they printed', async () => {
    provide('ENV/QUIET', 'echo copied; no_such_function=1\n');
    provide('ENV/X', 'echo before; no_such_function 1; echo after\n');
    provide('ENV/Y', 'echo first >&2; echo "last word" >&2; echo\n');
    const { complaints } = await stageZero({ runtimes: ['ENV/QUIET', 'ENV/X', 'ENV/Y'], shell });
    expect(complaints).toEqual([
      { name: 'ENV/X', said: expect.stringMatching(/no_such_function: .*not found/) },
      { name: 'ENV/Y', said: 'last word' },
    ]);
    expect(logged).toMatch(/^copied\nbefore\nafter\n.*not found\n\nfirst\nlast word\n$/);
  });

  it('runs one that another asked for, and gives it to the job', async () => {
    provide('ENV/X', 'joboption_runtime_1=ENV/Y\njoboption_runtime_1_1="an option"\n');
    provide('ENV/Y', 'RUNTIME_Y=$2\n');
    const { grami, variables } = await stageZero({ runtimes: ['ENV/X'], shell });
    expect(variables.get('RUNTIME_Y')).toBe('an option');
    expect(grami.runtimes).toEqual([
      { name: 'ENV/X', options: [] },
      { name: 'ENV/Y', options: ['an option'] },
    ]);
  });
});

describe('stage 0', () => {
  it("knows every function of ARC's scripts, of whatever version is here", () => {
    const names = ['lrms_common.sh', 'submit_common.sh']
      .map((file) => readIfThere(join(ARC_SCRIPTS, file)))
      .flatMap((text) => [...text.matchAll(/^(\w+) *\(\)/gm)].map(([, name]) => name));
    const template = readFileSync(
      new URL('../../../../templates/stage-zero.sh.ejs', import.meta.url),
      'utf8',
    );
    const listed = /const arcFunctions = \[([^\]]*)\]/.exec(template)?.[1] ?? '';
    const arcs = [...listed.matchAll(/'(\w+)'/g)].map(([, name]) => name);
    const own = [...template.matchAll(/^ {4}(\w+)\(\) \{$/gm)].map(([, name]) => name);
    expect([...arcs, ...own]).toEqual(expect.arrayContaining(names));
    expect(arcs.filter((name) => own.includes(name))).toEqual([]);
  });

  it("says so when one calls a function of ARC's and ARC's scripts are not there", async () => {
    provide('ENV/X', 'set_count; RUNTIME_X=$?\n');
    process.env['ARC_LOCATION'] = join(root, 'nowhere');
    try {
      const { variables, complaints } = await stageZero({ runtimes: ['ENV/X'] });
      expect(variables.get('RUNTIME_X')).toBe('127');
      expect(complaints[0]?.said).toBe(
        `vmbatch: set_count: not found, since ${join(root, 'nowhere/share/arc/lrms_common.sh')} is not there`,
      );
    } finally {
      delete process.env['ARC_LOCATION'];
    }
  });

  it("has the options of arc.conf as ARC's scripts have them, those of the job's queue last", async () => {
    const { configVariables } = parseArcConfiguration(
      '[lrms]\nlrms=vmbatch main\nbenchmark=HEPSPEC 1.0\nbenchmark=HS23 2.0\ndefaultmemory=1\n[queue:main]\ndefaultmemory=2\n',
      'arc.conf',
    );
    provide(
      'ENV/X',
      'RUNTIME_X="$CONFIG_benchmark|$CONFIG_benchmark_1|$CONFIG_defaultmemory|$PBS_BIN_PATH|$pkgdatadir|$CONFIG_controldir"\n',
    );
    const { variables } = await stageZero({ runtimes: ['ENV/X'], config: configVariables('main') });
    expect(variables.get('RUNTIME_X')).toBe(`__array__|HS23 2.0|2|/usr/bin|/usr/share/arc|${root}`);
  });

  it('prepares the software of one that was deployed from a community', async () => {
    const scripts = join(root, 'arc/share/arc');
    mkdirSync(scripts, { recursive: true });
    writeFileSync(
      join(scripts, 'community_rtes.sh'),
      `COMMUNITY_RTES=1
community_software_prepare() {
    [ -e "$rte_params_path.community" ] || return
    source "$rte_params_path.community"
    ln -s "$SOFTWARE_DIR" "$joboption_directory/software"
    RUNTIME_JOB_SWDIR="\\\${RUNTIME_JOB_DIR}/_software/$rte_name"
}
`,
    );
    provide('APPS/X', 'RUNTIME_X=$RUNTIME_JOB_SWDIR\n');
    provide('ENV/Y', 'RUNTIME_Y=ran\n');
    setParameters('APPS/X.community', 'SOFTWARE_DIR=/software\n');
    process.env['ARC_LOCATION'] = join(root, 'arc');
    try {
      const { variables } = await stageZero({ runtimes: ['APPS/X', 'ENV/Y'] });
      expect(variables.get('RUNTIME_X')).toBe(`\${RUNTIME_JOB_DIR}/_software/APPS/X`);
      expect(variables.get('RUNTIME_Y')).toBe('ran');
    } finally {
      delete process.env['ARC_LOCATION'];
    }
    expect(readlinkSync(join(root, 'session/software'))).toBe('/software');
    expect(resolveRuntimes([{ name: 'APPS/X', options: [] }], root)[0]?.parameters).toBe(
      `\nRUNTIME_JOB_SWDIR="\${RUNTIME_JOB_DIR}/_software"/'APPS/X'\n`,
    );
  });

  it('lets a script change anything of the job', async () => {
    provide(
      'ENV/X',
      `joboption_memory=\${joboption_memory:-2000}
joboption_count=4
joboption_nodeproperty_0=big
joboption_env_1='B=it'\\''s'
unset joboption_env_0
joboption_queue="$joboption_queue-$joboption_lrms"
ACCOUNTING_BENCHMARK=HEPSPEC:9
NODENAME='hostname -s'
GNU_TIME=
SOMETHING_ELSE=1
`,
    );
    const { grami, variables } = await stageZero({
      runtimes: ['ENV/X'],
      more: "joboption_queue='main'\njoboption_memory=\n",
      variables: { RUNTIME_NODE_SEES_FRONTEND: 'yes', NODENAME: 'hostname -f' },
    });
    expect(grami).toMatchObject({ memory: 2000, count: 4, nodeProperties: ['big'], queue: 'main-pbs' });
    // ARC's loop ends at the first index that is not set.
    expect(grami.environment).toEqual([]);
    expect(variables.get('RUNTIME_NODE_SEES_FRONTEND')).toBe('yes');
    expect(variables.get('ACCOUNTING_BENCHMARK')).toBe('HEPSPEC:9');
    expect(variables.get('NODENAME')).toBe('hostname -s');
    expect(variables.get('GNU_TIME')).toBe('');
    expect(variables.has('SOMETHING_ELSE')).toBe(false);
  });

  it('gives the command as a line of shell only if a script put something in front of it', async () => {
    provide('ENV/X', `joboption_args="/usr/bin/wrap --home \\\${RUNTIME_JOB_DIR} $joboption_args"\n`);
    provide('ENV/Y', ':\n');
    const more = `joboption_arg_1='it'\\''s $x'\n`;
    expect((await stageZero({ runtimes: ['ENV/X'], more })).grami.commandLine).toBe(
      `/usr/bin/wrap --home \${RUNTIME_JOB_DIR} './job.sh' 'it'\\''s $x'`,
    );
    expect((await stageZero({ runtimes: ['ENV/Y'], more })).grami.commandLine).toBeUndefined();
  });

  it('runs with our working directory and environment, the preprocessed configuration, nothing on stdin, and no descriptor of ours', async () => {
    process.env['X509_USER_PROXY'] = '/c/job.ID.proxy';
    provide(
      'ENV/X',
      'RUNTIME_X="$PWD|$X509_USER_PROXY|$ARC_CONFIG|$(cat)|$(for fd in 3 4 5; do [ -e /dev/fd/$fd ] && echo $fd; done)"; true\n',
    );
    try {
      const { variables } = await stageZero({ runtimes: ['ENV/X'] });
      expect(variables.get('RUNTIME_X')).toBe(`${process.cwd()}|/c/job.ID.proxy|/run/arex.cfg||`);
    } finally {
      delete process.env['X509_USER_PROXY'];
    }
  });

  it('starts no shell when there is nothing to run', async () => {
    provide('ENV/EMPTY', '');
    const { grami } = await stageZero({ runtimes: ['ENV/EMPTY'], shell: ['/nonexistent/sh'] });
    expect(grami.runtimes).toEqual([{ name: 'ENV/EMPTY', options: [] }]);
  });

  it('says so when there is no shell', async () => {
    provide('ENV/X', ':\n');
    await expect(stageZero({ runtimes: ['ENV/X'], shell: ['/nonexistent/sh'] })).rejects.toMatchObject({
      message: expect.stringContaining('could not run: spawn /nonexistent/sh ENOENT'),
    });
  });

  it('ends one that takes too long, with all it started', async () => {
    const pidFile = join(root, 'pid');
    provide('ENV/X', `echo still busy >&2\nsleep 300 &\necho $! > ${pidFile}\nwait\n`);
    await expect(stageZero({ runtimes: ['ENV/X'], timeoutMs: 700 })).rejects.toMatchObject({
      fault: 'job',
      message: 'the runtime environment "ENV/X", stage 0, did not end within 0.7 s: still busy',
    });
    const pid = Number(readFileSync(pidFile, 'utf8'));
    const state = () => {
      try {
        return /^State:\s+(\S)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 'gone';
      } catch {
        return 'gone';
      }
    };
    await expect.poll(state).toMatch(/^(gone|Z)$/);
  });

  it('names one that prints too much', async () => {
    provide('ENV/LOUD', 'head -c 70000000 /dev/zero; sleep 30\n');
    await expect(stageZero({ runtimes: ['ENV/LOUD'] })).rejects.toMatchObject({
      fault: 'job',
      code: 'stage-zero-failed',
      message: 'the runtime environment "ENV/LOUD", stage 0, printed more than 64 MiB',
    });
  });

  it('does not wait for what a script leaves in the background', async () => {
    provide('ENV/X', '(trap "" HUP; sleep 5) &\nRUNTIME_X=done\n');
    const started = performance.now();
    expect((await stageZero({ runtimes: ['ENV/X'] })).variables.get('RUNTIME_X')).toBe('done');
    expect(performance.now() - started).toBeLessThan(4_500);
  });

  it('is the fault of the site when a default one fails', async () => {
    provide('ENV/X', 'return 1\n', 'default');
    await expect(stageZero()).rejects.toMatchObject({ fault: 'site', code: 'stage-zero-failed' });
  });

  it('checks what a script leaves behind as it checks the grami file', async () => {
    provide('ENV/X', 'joboption_count=many\n');
    await expect(stageZero({ runtimes: ['ENV/X'] })).rejects.toMatchObject({
      fault: 'site',
      message: `${join(root, 'job.ID.grami')}, after stage 0 of the runtime environments: joboption_count: found "many", must be a whole number or empty`,
    });
  });

  it('leaves no temporary file behind', async () => {
    provide('ENV/X', ':\n');
    const before = readdirSync(tmpdir()).filter((name) => name.startsWith('vmbatch-') && name.length === 32);
    await stageZero({ runtimes: ['ENV/X'] });
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith('vmbatch-') && name.length === 32)).toEqual(
      before,
    );
  });
});

describe('stage 0 of ENV/VMBATCH', () => {
  const use = async (options: readonly string[], parameters?: string) => {
    provide(
      'ENV/VMBATCH',
      readFileSync(new URL('../../../../share/rte/ENV/VMBATCH', import.meta.url), 'utf8'),
    );
    if (parameters !== undefined) setParameters('ENV/VMBATCH', parameters);
    return (await stageZero({ runtimes: [['ENV/VMBATCH', ...options]] })).grami;
  };

  it('asks for the image and the repositories of its options', async () => {
    expect(await use(['image=alma9', 'repositories=alice.cern.ch,sft.cern.ch'])).toMatchObject({
      image: 'alma9',
      repositories: 'alice.cern.ch,sft.cern.ch',
    });
  });

  it("asks for the site's without options, which come before those", async () => {
    const parameters = 'VMBATCH_IMAGE="site"\nVMBATCH_REPOSITORIES="atlas.cern.ch"\n';
    expect(await use([], parameters)).toMatchObject({ image: 'site', repositories: 'atlas.cern.ch' });
  });

  it('prefers the options to them', async () => {
    expect(await use(['image=alma9'], 'VMBATCH_IMAGE="site"\n')).toMatchObject({ image: 'alma9' });
  });

  it('asks for nothing without either', async () => {
    expect(await use([])).toMatchObject({ image: undefined, repositories: undefined });
  });

  it.each(['alma9', 'image=', 'images=alma9', '', '-n', "it's $x"])(
    'refuses the option %j',
    async (option) => {
      await expect(use(['image=alma9', option])).rejects.toMatchObject({
        fault: 'job',
        message: `the runtime environment "ENV/VMBATCH", stage 0, failed with code 1: ENV/VMBATCH: found the option "${option}", must be image=NAME or repositories=NAME,NAME`,
      });
    },
  );

  it('is what arcctl can read: a description, and parameters with type, default and description', () => {
    const text = readFileSync(new URL('../../../../share/rte/ENV/VMBATCH', import.meta.url), 'utf8');
    expect(text).toMatch(/^# description: \S/);
    const parameters = text.split('\n').filter((line) => line.startsWith('# param:'));
    expect(parameters.map((line) => line.split(':').length)).toEqual([5, 5]);
  });
});

const ARC = '/usr/share/arc/rte/ENV';

describe.runIf(existsSync(ARC))("stage 0 of ARC's own runtime environments, unchanged", () => {
  const provideArcs = (name: string) => provide(`ENV/${name}`, readFileSync(join(ARC, name), 'latin1'));

  it('ENV/PROXY puts the proxy and the CA certificates into the session directory', async () => {
    provideArcs('PROXY');
    setParameters('ENV/PROXY', 'COPY_CACERT_DIR="Yes"\n');
    mkdirSync(join(root, 'certificates'));
    writeFileSync(join(root, 'certificates/ca.pem'), 'ca');
    writeFileSync(join(root, 'job.ID.proxy'), 'proxy');
    process.env['X509_CERT_DIR'] = join(root, 'certificates');
    try {
      await stageZero({ runtimes: ['ENV/PROXY'] });
    } finally {
      delete process.env['X509_CERT_DIR'];
    }
    expect(readFileSync(join(root, 'session/user.proxy'), 'utf8')).toBe('proxy');
    expect(statSync(join(root, 'session/user.proxy')).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(root, 'session/arc/certificates'))).toEqual(['ca.pem']);
  });

  it('ENV/LRMS-SCRATCH names a variable that the node has', async () => {
    provideArcs('LRMS-SCRATCH');
    const { variables } = await stageZero({ runtimes: ['ENV/LRMS-SCRATCH'] });
    expect(variables.get('RUNTIME_LOCAL_SCRATCH_DIR')).toBe(`\${WORKDIR}`);
  });

  it("ENV/CANDYPOND adds its URL behind the user's variables", async () => {
    provideArcs('CANDYPOND');
    setParameters('ENV/CANDYPOND', 'CANDYPOND_URL="https://ce.example.org/arex/candypond"\n');
    const { grami } = await stageZero({ runtimes: ['ENV/CANDYPOND'], more: "joboption_env_1='B='\n" });
    expect(grami.environment).toEqual([
      { name: 'A', value: '1' },
      { name: 'B', value: '' },
      { name: 'ARC_CANDYPOND_URL', value: 'https://ce.example.org/arex/candypond' },
    ]);
    expect(readdirSync(join(root, 'session/arc/bin'))).toEqual(['arccandypond']);
  });

  it('ENV/CANDYPOND fails the job with its own words where it is not switched on', async () => {
    provideArcs('CANDYPOND');
    const configurationFile = join(root, 'arex.cfg');
    writeFileSync(configurationFile, '[common]\nhostname=ce\n');
    await expect(stageZero({ runtimes: ['ENV/CANDYPOND'], configurationFile })).rejects.toMatchObject({
      message: expect.stringContaining('exit code 1: FATAL: Candypond is not enabled.'),
    });
  });

  it('ENV/SINGULARITY puts its program in front of the command', async () => {
    provideArcs('SINGULARITY');
    setParameters(
      'ENV/SINGULARITY',
      'BINARY_PATH="/usr/bin/apptainer"\nSINGULARITY_IMAGE="default:/img/a.sif"\n',
    );
    writeFileSync(join(root, 'job.ID.local'), 'voms=/alice/Role=NULL\n');
    const { grami, variables, complaints } = await stageZero({ runtimes: ['ENV/SINGULARITY'] });
    expect(complaints).toEqual([]);
    expect(grami.commandLine).toBe(
      `/usr/bin/apptainer exec  --home \${RUNTIME_JOB_DIR} /img/a.sif './job.sh'`,
    );
    expect(variables.get('ACCOUNTING_WN_INSTANCE')).toBe('/img/a.sif');
  });

  it('ENV/RTE copies the text of all of them', async () => {
    provideArcs('RTE');
    provide('ENV/X', 'true # x\n', 'default');
    await stageZero({ runtimes: ['ENV/RTE'] });
    expect(readFileSync(join(root, 'session/rte/ENV/X'), 'utf8')).toBe('true # x\n');
  });
});

describe('resolveRuntimes', () => {
  const resolve = (...names: string[]) =>
    resolveRuntimes(
      names.map((name) => ({ name, options: [] })),
      root,
    );

  it('takes what is enabled before a default of the same name, once', () => {
    provide('ENV/X', 'enabled', 'enabled');
    provide('ENV/Y', 'y', 'default');
    const target = join(root, 'other');
    writeFileSync(target, 'default');
    symlinkSync(target, join(root, 'rte/default/ENV/X'));
    setParameters('ENV/X', 'P=1\n');
    expect(resolve('ENV/X')).toEqual([
      { name: 'ENV/X', options: [], script: 'enabled', parameters: 'P=1\n' },
      { name: 'ENV/Y', options: [], script: 'y', parameters: undefined },
    ]);
  });

  it('finds a default one that the job asks for', () => {
    provide('ENV/X', 'x', 'default');
    expect(resolve('ENV/X')).toMatchObject([{ script: 'x' }]);
  });

  it('counts an empty one, without a script', () => {
    provide('ENV/X', '');
    expect(resolve('ENV/X')).toEqual([
      { name: 'ENV/X', options: [], script: undefined, parameters: undefined },
    ]);
  });

  it('takes a dummy, a link to /dev/null, for an empty one, asked for or by default', () => {
    for (const [folder, name] of [
      ['enabled', 'DUMMY'],
      ['default', 'EVERY'],
    ] as const) {
      mkdirSync(join(root, 'rte', folder), { recursive: true });
      symlinkSync('/dev/null', join(root, 'rte', folder, name));
    }
    expect(resolve('DUMMY').map(({ name, script }) => [name, script])).toEqual([
      ['DUMMY', undefined],
      ['EVERY', undefined],
    ]);
  });

  it('leaves out a default whose link leads nowhere', () => {
    mkdirSync(join(root, 'rte/default'), { recursive: true });
    symlinkSync('/nonexistent', join(root, 'rte/default/GONE'));
    expect(resolve()).toEqual([]);
  });

  it('has none where there is no rte folder', () => {
    expect(resolve()).toEqual([]);
  });

  it.each(['ENV/NONE', 'ENV/BROKEN', 'ENV'])('refuses the missing %s as the fault of the job', (name) => {
    mkdirSync(join(root, 'rte/enabled/ENV'), { recursive: true });
    symlinkSync('/nonexistent', join(root, 'rte/enabled/ENV/BROKEN'));
    expect(() => resolve(name)).toThrow(
      expect.objectContaining({
        fault: 'job',
        code: 'runtime-environment-missing',
        message: expect.stringContaining(`"${name}"`),
      }),
    );
  });

  it('says whose fault a missing one is, and what to do', () => {
    expect(() => resolve('ENV/NONE')).toThrow(
      expect.objectContaining({ fault: 'job', code: 'runtime-environment-missing' }),
    );
  });

  it.each(['../../secret', '/etc/hostname', 'ENV/../../../secret', 'a//b', './x', '', 'x/', '..', 'a\nb'])(
    'never looks outside for %j',
    (name) => {
      mkdirSync(join(root, 'rte/enabled/ENV'), { recursive: true });
      writeFileSync(join(root, 'secret'), 'secret');
      expect(() => resolve(name)).toThrow('its name is not one of a runtime environment');
    },
  );

  it.each([
    [
      'a file that is too large',
      (path: string) => writeFileSync(path, 'x'.repeat(1024 * 1024 + 1)),
      'at most 1048576',
    ],
    ['a FIFO', (path: string) => execFileSync('/usr/bin/mkfifo', [path]), 'is not a regular file'],
  ])('refuses %s', (_, make, expected) => {
    mkdirSync(join(root, 'rte/enabled'), { recursive: true });
    make(join(root, 'rte/enabled/X'));
    expect(() => resolve('X')).toThrow(expected);
  });

  it('refuses a hundred and one of them', () => {
    expect(() => resolve(...Array.from({ length: 101 }, () => 'X'))).toThrow('asks for 101');
  });

  it.runIf(process.getuid?.() !== 0)('names one that cannot be read', () => {
    provide('ENV/X', 'x');
    chmodSync(join(root, 'share/ENV_X'), 0);
    expect(() => resolve('ENV/X')).toThrow('EACCES');
  });
});
