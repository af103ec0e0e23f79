// The same jobs through ARC's own pbs back-end and through ours, without a batch system: qsub keeps the
// script, which is then run. What is left in the session directory must be the same. ARC_LOCATION may name
// another ARC than the installed one.
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildBatchScript } from '../../src/arc/batch-script/batch-script.ts';
import { resolveRuntimes } from '../../src/arc/batch-script/runtime-environments.ts';
import { type Complaint, runStageZero } from '../../src/arc/batch-script/stage-zero.ts';
import { initialVariables, parseArcConfiguration } from '../../src/arc/configuration/configuration.ts';
import { diagValue, parseDiag } from '../../src/arc/diag.ts';
import { loadGramiAndValues } from '../../src/arc/grami.ts';
import { shellQuote } from '../../src/util/quote.ts';
import { readIfThere } from '../support/files.ts';

const SHARE = join(process.env['ARC_LOCATION'] || '/usr', 'share/arc');
const LIBEXEC = join(process.env['ARC_LOCATION'] || '/usr', 'lib/arc');
const SUBMIT = join(SHARE, 'submit-pbs-job');
/** ARC 7 knows its own layout only. */
const NESTED = readIfThere(join(SHARE, 'lrms_common.sh')).includes('control_path');
const ID = '0123456789ab';

interface Job {
  /** argv. */
  args: string[];
  /** Further assignments, values unquoted; `$S` stands for the session directory. */
  more?: Record<string, string>;
  /** What the user's files hold. */
  files?: Record<string, string>;
  /** Runtime environments that the job asks for: names and options. */
  runtimes?: string[][];
  /** Those that the site has: text, or undefined for ARC's own. */
  provided?: Record<string, string | undefined>;
  defaults?: Record<string, string | undefined>;
  parameters?: Record<string, string>;
}

/** What is left of a job. */
interface Left {
  exitCode: number | null;
  files: Record<string, string>;
  diag: Record<string, string | undefined>;
}

let root: string;
const at = (...parts: string[]) => join(root, ...parts);
const controlFile = (name: string) =>
  NESTED ? at('control/jobs/012/345/678/9ab', name) : at(`control/job.${ID}.${name}`);

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'vmbatch-as-pbs-'));
  mkdirSync(at('bin'));
  writeFileSync(at('bin/qsub'), `#!/bin/sh\ncat > '${at('script')}'\necho 1.vm\n`, { mode: 0o755 });
  // ARC as it is, but that its parser of arc.conf, which takes most of the time of a submission, is asked
  // once for the same.
  mkdirSync(at('arc/lib/arc'), { recursive: true });
  mkdirSync(at('arc/share'));
  symlinkSync(SHARE, at('arc/share/arc'));
  for (const name of readdirSync(LIBEXEC))
    if (name !== 'arcconfig-parser') symlinkSync(join(LIBEXEC, name), at('arc/lib/arc', name));
  mkdirSync(at('parsed'));
  writeFileSync(
    at('arc/lib/arc/arcconfig-parser'),
    `#!/bin/sh
case "$*" in *--export*) ;; *) exec '${LIBEXEC}/arcconfig-parser' "$@" ;; esac
parsed='${at('parsed')}'/$(echo "$*" | cksum | tr -d ' ')
[ -e "$parsed" ] || '${LIBEXEC}/arcconfig-parser' "$@" > "$parsed"
cat "$parsed"
`,
    { mode: 0o755 },
  );
  process.env['ARC_LOCATION'] = at('arc');
  process.env['X509_CERT_DIR'] = at('certificates');
  // A container's program that runs what it is given, and leaves a trace.
  writeFileSync(
    at('bin/container'),
    '#!/bin/sh\nwhile [ "$1" != /image ]; do shift; done\nshift\necho contained > contained\nexec "$@"\n',
    { mode: 0o755 },
  );
});
afterAll(() => {
  for (const name of ['ARC_LOCATION', 'X509_CERT_DIR']) delete process.env[name];
  rmSync(root, { recursive: true, force: true });
});

function prepare({ args, more = {}, files = {}, runtimes = [], parameters = {}, ...job }: Job): void {
  for (const folder of ['control', 'session', 'certificates', 'launch'])
    rmSync(at(folder), { recursive: true, force: true });
  mkdirSync(at('session', ID), { recursive: true });
  mkdirSync(at('certificates'));
  writeFileSync(at('certificates/ca.pem'), 'a certificate');
  mkdirSync(at('launch'));
  spawnSync('/usr/bin/mkfifo', [at('launch/alive')]);
  const put = (path: string, text: string, mode = 0o644) => {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text, { mode });
  };
  for (const [name, text] of Object.entries(files)) put(at('session', ID, name), text, 0o755);
  for (const [folder, all] of [
    ['enabled', job.provided],
    ['default', job.defaults],
  ] as const)
    for (const [name, text] of Object.entries(all ?? {})) {
      const path = at('control/rte', folder, name);
      mkdirSync(dirname(path), { recursive: true });
      if (text === undefined) symlinkSync(join(SHARE, 'rte', name), path);
      else writeFileSync(path, text);
    }
  for (const [name, text] of Object.entries(parameters)) put(at('control/rte/params', name), text);
  const session = at('session', ID);
  const all: Record<string, string> = {
    directory: session,
    controldir: at('control'),
    gridid: ID,
    queue: 'main',
    jobname: 'a job',
    count: '1',
    stdin: '/dev/null',
    stdout: '$S/std.out',
    stderr: '$S/std.err',
    env_0: 'FIRST=1',
    env_1: `GRID_GLOBAL_JOBID=${ID}`,
    outputfile_0: '/',
    ...Object.fromEntries(args.map((arg, index) => [`arg_${index}`, arg])),
    ...Object.fromEntries(
      runtimes.flatMap((words, index) =>
        words.map((word, place) => [`runtime_${index}${place === 0 ? '' : `_${place}`}`, word]),
      ),
    ),
    ...more,
  };
  const text = Object.entries(all).map(
    ([key, value]) => `joboption_${key}=${shellQuote(value.replaceAll('$S', session))}\n`,
  );
  put(controlFile('grami'), text.join(''));
  put(controlFile('proxy'), 'the proxy');
  put(controlFile('local'), 'voms=/alice/Role=NULL\n');
  put(controlFile('output'), '/\n');
  for (const lrms of ['pbs', 'vmbatch'])
    put(
      at(`${lrms}.conf`),
      `[common]\nhostname=localhost\n[lrms]\nlrms=${lrms} main\npbs_bin_path=${at('bin')}\n` +
        `[arex]\ncontroldir=${at('control')}\n[queue:main]\n`,
    );
}

const ENVIRONMENT = () => ({ PATH: '/usr/bin:/bin', HOME: root, X509_CERT_DIR: at('certificates') });

/** @returns undefined if the job was refused */
function throughPbs(job: Job): Left | undefined {
  prepare(job);
  // As where /bin/sh is bash.
  const words = ['--posix', SUBMIT, '--config', at('pbs.conf'), controlFile('grami')];
  const submitted = spawnSync('/bin/bash', words, {
    env: { ...ENVIRONMENT(), ARC_LOCATION: at('arc') },
    cwd: root,
  });
  return submitted.status === 0 ? execute(readFileSync(at('script'))) : undefined;
}

async function throughOurs(job: Job): Promise<{ left: Left | undefined; complaints: Complaint[] }> {
  prepare(job);
  const { grami, values } = loadGramiAndValues(controlFile('grami'));
  const file = at('vmbatch.conf');
  const configuration = parseArcConfiguration(readFileSync(file, 'latin1'), file);
  try {
    const stage = await runStageZero({
      grami,
      values,
      runtimes: resolveRuntimes(grami.runtimes, grami.controlDirectory),
      variables: initialVariables(configuration),
      config: configuration.configVariables('main'),
      configurationFile: file,
      log: () => undefined,
    });
    const runtimes = resolveRuntimes(stage.grami.runtimes, grami.controlDirectory);
    const script = buildBatchScript(stage.grami, configuration, runtimes, stage.variables);
    return { left: execute(Buffer.from(script, 'latin1')), complaints: stage.complaints };
  } catch {
    return { left: undefined, complaints: [] };
  }
}

function execute(script: Buffer): Left {
  writeFileSync(at('launch/script'), script, { mode: 0o700 });
  const { status } = spawnSync('/bin/bash', [at('launch/script')], { env: ENVIRONMENT(), cwd: root });
  const session = at('session', ID);
  const files = readdirSync(session, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path): [string, string] => [path.slice(session.length + 1), readFileSync(path, 'latin1')])
    .sort(([one], [other]) => (one < other ? -1 : 1));
  const diag = parseDiag(readIfThere(`${session}.diag`));
  const keys = ['exitcode', 'Processors', 'runtimeenvironments', 'Benchmark', 'nodename', 'systemsoftware'];
  return {
    exitCode: status,
    files: Object.fromEntries(files),
    diag: Object.fromEntries(keys.map((key) => [key, diagValue(diag, key)])),
  };
}

const SHOW = `#!/bin/sh
for word in "$@"; do printf '<%s>\\n' "$word"; done
echo "$PWD $HOME $(umask)"
env | grep -E '^(FIRST|V[0-9]*|X509_[A-Z_]*|ARC_[A-Z]*|TMPDIR|GRID_GLOBAL_JOBID|FROM_RTE)=' | sort
cat
echo to stderr >&2
echo made > made
`;
const show = (...args: string[]) => ({ args: ['./show', ...args], files: { show: SHOW } });
const sh = (text: string) => ({ args: ['/bin/sh', '-c', text] });

/** Same with both. */
const JOBS: Record<string, Job> = {
  'a relative executable': show(),
  'an absolute executable': sh('echo absolute; exit 7'),
  'arguments with blanks, quotes and signs': show(
    'two words',
    "it's",
    'a"b',
    '',
    '*',
    '-n',
    'a;b&c|d',
    '%d',
    'é',
  ),
  'an argument with a backslash': show('a\\b', 'c\\\\d', 'end\\'),
  'stdin from a file': { ...show(), files: { show: SHOW, in: 'input\n' }, more: { stdin: '$S/in' } },
  'stdout and stderr in one file': { ...show(), more: { stderr: '$S/std.out' } },
  'an executable that is not there': { args: ['./none'] },
  'an interpreter that is not there': { args: ['./bad'], files: { bad: '#!/no/such/program\n' } },
  'a job that fails': sh('echo failing >&2; exit 42'),
  // Its own process: 39 is getpid.
  'a job that dies of a signal': { args: ['/usr/bin/perl', '-e', 'kill 9, syscall 39'] },
  'variables with signs': {
    ...show(),
    more: {
      env_2: "V1=it's",
      env_3: 'V2=two words',
      env_4: 'V3=$HOME `id` "x"',
      env_5: 'V4=',
      env_6: 'V5=a=b',
    },
  },
  'several slots': { ...show(), more: { count: '4', countpernode: '4', numnodes: '1' } },
  'limits of time and memory': {
    ...sh('echo limited'),
    more: { cputime: '60', walltime: '60', memory: '100', disk: '1' },
  },
  'a runtime environment with options and parameters': {
    ...sh('echo "$FROM_RTE"'),
    provided: {
      'TEST/X': 'case $1 in 1) export FROM_RTE="$2 $P";; 2) echo "after $RESULT $2" > after;; esac\n',
    },
    parameters: { 'TEST/X': 'P="from params"\n' },
    runtimes: [['TEST/X', 'option']],
  },
  'a default one, which was asked for, too': {
    ...show(),
    defaults: {
      'TEST/D':
        'HERE=$joboption_directory; [ "$1" = 0 ] || HERE=$RUNTIME_JOB_DIR; echo "$1" >> "$HERE/stages"\n',
    },
    runtimes: [['TEST/D']],
  },
  'a default one that nobody asked for': {
    ...show(),
    defaults: {
      'TEST/D':
        'HERE=$joboption_directory; [ "$1" = 0 ] || HERE=$RUNTIME_JOB_DIR; echo "$1" >> "$HERE/stages"\n',
    },
  },
  'one that is missing': { ...show(), runtimes: [['TEST/NONE']] },
  'one that fails in stage 0': { ...show(), provided: { 'TEST/X': 'false\n' }, runtimes: [['TEST/X']] },
  'one that fails in stage 1': {
    ...show(),
    provided: { 'TEST/X': '[ "$1" != 1 ]\n' },
    runtimes: [['TEST/X']],
  },
  'one that fails in stage 2': {
    ...show(),
    provided: { 'TEST/X': '[ "$1" != 2 ]\n' },
    runtimes: [['TEST/X']],
  },
  'one that adds a variable': {
    ...show(),
    provided: { 'TEST/X': '[ "$1" != 0 ] || joboption_env_2=\'V9=from stage 0\'\n' },
    runtimes: [['TEST/X']],
  },
  "one that calls functions of ARC's": {
    ...show(),
    provided: {
      'TEST/X':
        '[ "$1" = 0 ] || return 0\nset_count; is_number "$joboption_count" || return 1\nparse_arc_conf\n' +
        'echo "$joboption_count $joboption_numnodes $CONFIG_controldir $PBS_BIN_PATH $rte_name" > "$joboption_directory/known"\n',
    },
    runtimes: [['TEST/X']],
  },
  'ENV/PROXY': { ...show(), provided: { 'ENV/PROXY': undefined }, runtimes: [['ENV/PROXY']] },
  'ENV/PROXY without certificates': {
    ...show(),
    provided: { 'ENV/PROXY': undefined },
    parameters: { 'ENV/PROXY': 'COPY_CACERT_DIR="No"\n' },
    runtimes: [['ENV/PROXY']],
  },
  'ENV/RTE': {
    ...show(),
    provided: { 'ENV/RTE': undefined },
    defaults: { 'TEST/D': 'true\n' },
    parameters: { 'TEST/D': 'P=1\n' },
    runtimes: [['ENV/RTE']],
  },
  'ENV/LRMS-SCRATCH': {
    ...show(),
    provided: { 'ENV/LRMS-SCRATCH': undefined },
    parameters: { 'ENV/LRMS-SCRATCH': 'SCRATCH_VAR="NONE"\nTMPDIR_LOCATION="tmp"\n' },
    runtimes: [['ENV/LRMS-SCRATCH']],
  },
  'ENV/CANDYPOND': {
    ...show(),
    provided: { 'ENV/CANDYPOND': undefined },
    parameters: { 'ENV/CANDYPOND': 'CANDYPOND_URL="https://ce/arex/candypond"\n' },
    runtimes: [['ENV/CANDYPOND']],
  },
  'ENV/CANDYPOND where it is not switched on': {
    ...show(),
    provided: { 'ENV/CANDYPOND': undefined },
    runtimes: [['ENV/CANDYPOND']],
  },
  'ENV/CONDOR/DOCKER': {
    ...show(),
    provided: { 'ENV/CONDOR/DOCKER': undefined },
    runtimes: [['ENV/CONDOR/DOCKER', 'image']],
  },
  'ENV/SINGULARITY': {
    ...show('two words', "it's"),
    provided: { 'ENV/SINGULARITY': undefined },
    runtimes: [['ENV/SINGULARITY']],
  },
};

describe.runIf(existsSync(SUBMIT))("the session directory is left as by ARC's own pbs back-end", () => {
  it.each(Object.keys(JOBS))(
    'by a job with %s',
    async (title) => {
      let job = JOBS[title] ?? show();
      if (title === 'ENV/SINGULARITY') {
        const parameters = `BINARY_PATH="${at('bin/container')}"\nSINGULARITY_IMAGE="alice:/image"\n`;
        job = { ...job, parameters: { 'ENV/SINGULARITY': parameters } };
      }
      const theirs = throughPbs(job);
      const { left: ours, complaints } = await throughOurs(job);
      expect(ours?.files).toEqual(theirs?.files);
      expect(ours?.exitCode).toBe(theirs?.exitCode);
      // Ours is whole whatever fails.
      const written = Object.entries(theirs?.diag ?? {}).filter(([, value]) => value !== undefined);
      expect(ours?.diag).toMatchObject(Object.fromEntries(written));
      if (title === 'ENV/SINGULARITY') expect(ours?.files['contained']).toBe('contained\n');
      if (title === 'ENV/PROXY') expect(ours?.files['user.proxy']).toBe('the proxy');
      expect(complaints.map(({ said }) => said).filter((said) => /not found|operator/.test(said))).toEqual(
        [],
      );
    },
    60_000,
  );

  it('but that no shell acts upon an argument', async () => {
    const job = show('$HOME', '`id`', 'two\nlines');
    const { left } = await throughOurs(job);
    expect(left?.files['std.out']).toContain('<$HOME>\n<`id`>\n<two\nlines>\n');
    expect(throughPbs(job)?.files['std.out']).not.toContain('<$HOME>');
  }, 60_000);
});
