// Scratch directories: where the job's files go, what comes back, and what the front end sees meanwhile.
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildBatchScript } from '../../../../src/arc/batch-script/batch-script.ts';
import { diagExitCode, diagValue } from '../../../../src/arc/diag.ts';
import type { Grami } from '../../../../src/arc/grami.ts';
import { encodeBytes } from '../../../../src/arc/text.ts';
import { VmbatchError } from '../../../../src/util/errors.ts';
import { shellQuote } from '../../../../src/util/quote.ts';
import { configure, ScriptBench, SHELLS } from './bench.ts';

describe.each(SHELLS)('a scratch directory under %s', (...shell) => {
  let bench: ScriptBench;
  let scratch: string;
  beforeAll(() => {
    bench = new ScriptBench(shell);
    scratch = join(bench.root, 'local scratch');
  });
  afterAll(() => bench.close());
  beforeEach(() => {
    bench.reset();
    rmSync(scratch, { recursive: true, force: true });
  });
  const site = (more = {}) => ({ ...configure(), scratchDirectory: scratch, ...more });
  const run = (program: string, more: Partial<Grami> = {}, configuration = site(), environment = {}) =>
    bench.execute(buildBatchScript(bench.program(program, more), configuration), environment);
  const listing = (folder: string) => readdirSync(folder).sort();

  it('is where the job runs with its files, and its stdout and stderr are seen in the session directory meanwhile', () => {
    writeFileSync(join(bench.session, 'in put'), 'input\n');
    writeFileSync(join(bench.session, '.hidden'), 'hidden\n');
    const out = `${encodeBytes(bench.session)}/log/std.out`;
    const program = `pwd; echo "$HOME"; cat < 'in put' .hidden; ls -A '${bench.session}'; cat '${bench.session}/log/std.out' > copy`;
    const result = run(program, { stdout: out, outputFiles: ['/'] });
    expect(result.stderr.toString()).toBe('');
    const work = join(scratch, 'ID');
    const printed = `${work}\n${work}\nhidden\nlog\nstd.err\n`;
    expect(bench.file('log/std.out')).toBe(printed);
    expect(bench.file('copy')).toBe(printed);
    expect(listing(bench.session)).toEqual(['.hidden', 'copy', 'dump', 'in put', 'log', 'std.err']);
    expect(lstatSync(join(bench.session, 'log/std.out')).isFile()).toBe(true);
    expect(existsSync(work)).toBe(false);
    expect(bench.diagText()).toMatch(/\nexitcode=0\n$/);
  });

  it("keeps the job's outputs, also those of its dynamic lists and in folders, and nothing else", () => {
    const program = [
      `mkdir -p dir/deep keep/sub away; for f in a 'b b' 'c\\c' "d'd" dir/x dir/deep/y keep/sub/z away/w junk dyn1 'dyn 2'; do echo "$f" > "$f"; done`,
      'ln -s a link; echo old > std.out.1; chmod 400 junk',
      `printf '%s\n' dyn1 'dyn\\ 2 rest' ../../outside > list`,
      'echo printed',
    ].join('\n');
    const outside = join(bench.root, 'outside');
    writeFileSync(outside, 'x');
    const outputFiles = [
      '/a',
      '/b b',
      '/c\\c',
      "/d'd",
      '/dir/',
      '/keep/sub/z',
      '/@list',
      '/gmlog',
      '/std.out',
    ];
    const result = run(program, { outputFiles });
    expect(result.stderr.toString()).toBe('');
    expect(listing(bench.session)).toEqual(
      [
        'a',
        'away',
        'b b',
        'c\\c',
        "d'd",
        'dir',
        'dyn 2',
        'dyn1',
        'keep',
        'list',
        'std.err',
        'std.out',
      ].sort(),
    );
    expect(listing(join(bench.session, 'dir'))).toEqual(['deep', 'x']);
    expect(listing(join(bench.session, 'away'))).toEqual([]);
    expect(bench.file('keep/sub/z')).toBe('keep/sub/z\n');
    expect(bench.file('std.out')).toBe('printed\n');
    expect(lstatSync(outside).mode & 0o200).toBe(0o200);
  });

  it('measures the space before anything is cleaned', () => {
    run('dd if=/dev/zero of=junk bs=1024 count=300 2> /dev/null');
    expect(Number(diagValue(bench.diag(), 'usedscratch'))).toBeGreaterThan(300 * 1024);
    expect(existsSync(join(bench.session, 'junk'))).toBe(false);
  });

  it('gives the files back and records the end when the job fails or is told to end', async () => {
    expect(run('echo x > result; exit 9', { outputFiles: ['/result'] }).status).toBe(9);
    expect(bench.file('result')).toBe('x\n');
    bench.reset();
    const job = bench.program('echo x > result; exec sleep 60', { outputFiles: ['/result'] });
    const code = await bench.terminate(buildBatchScript(job, site()), () =>
      existsSync(join(scratch, 'ID', 'result')),
    );
    expect(code).toBe(143);
    expect(bench.file('result')).toMatch(/^(x\n)?$/);
    expect(diagExitCode(bench.diag())).toBe(143);
  });

  it("leaves the mark of a submission where submit looks for it, with the batch job's id", () => {
    writeFileSync(join(bench.session, '.vmbatch-submission'), 'token\n');
    run(`ls -A > list; cat '${bench.session}/.vmbatch-submission' > copy; echo mine > .vmbatch-submission`, {
      outputFiles: ['/'],
    });
    expect(bench.file('copy')).toBe('token\n7.vm\n');
    expect(bench.file('list')).not.toContain('.vmbatch-submission');
    expect(bench.file('.vmbatch-submission')).toBe('token\n7.vm\n');
  });

  it('gives the files back as they were, and does not start the job, when it is told to end while they are moved', async () => {
    // In the site's option it may have no blank in its name.
    const tool = join(tmpdir(), `vmbatch-move-${process.pid}`);
    const moving = join(bench.root, 'moving');
    rmSync(moving, { force: true });
    writeFileSync(tool, `#!/bin/sh\necho > ${shellQuote(moving)}\nsleep 0.5\nexec mv "$@"\n`, {
      mode: 0o755,
    });
    writeFileSync(join(bench.session, 'input'), 'x\n');
    try {
      const script = buildBatchScript(bench.program('echo > ran'), site({ moveTool: tool }));
      expect(await bench.terminate(script, () => existsSync(moving))).toBe(143);
    } finally {
      rmSync(tool);
    }
    expect(listing(bench.session)).toContain('dump');
    expect(bench.file('input')).toBe('x\n');
    expect(listing(bench.session)).not.toContain('ran');
    expect(bench.diagText()).toMatch(/\nexitcode=143\n$/);
    expect(existsSync(join(scratch, 'ID'))).toBe(false);
  });

  it('uses the move tool of the site, and fails the job with all of its files in place if that fails', () => {
    const configuration = site({ moveTool: 'cp -R' });
    run('echo x > result', { outputFiles: ['/result'] }, configuration);
    expect(listing(bench.session)).toContain('result');
    bench.reset();
    const failing = run('echo ran > ran', {}, site({ moveTool: 'false -x' }));
    expect(failing.status).toBe(1);
    const said = /^Failed to 'false -x' '.*\/session\/ID\/.*' to '.*\/local scratch\/ID'$/;
    expect(diagValue(bench.diag(), 'LRMSMessage')).toMatch(said);
    expect(failing.stderr.toString()).toContain("vmbatch: Failed to 'false -x' '");
    expect(listing(bench.session)).toContain('dump');
    expect(listing(bench.session)).not.toContain('ran');
    expect(bench.diagText()).toMatch(/\nexitcode=1\n$/);
  });

  it('fails the job when what it made cannot come back, and says so', () => {
    const result = run(`mkdir -p '${bench.session}/taken/by'; echo x > taken`, {
      outputFiles: ['/taken'],
    });
    expect(result.status).toBe(1);
    expect(diagExitCode(bench.diag())).toBe(1);
    expect(diagValue(bench.diag(), 'LRMSMessage')).toBe(
      encodeBytes(`Failed to move the job's files from '${scratch}/ID' to '${bench.session}'`),
    );
    expect(readFileSync(join(scratch, 'ID', 'taken'), 'utf8')).toBe('x\n');
  });

  it('says why there is none, and the job does not run', () => {
    writeFileSync(scratch, 'a file');
    const result = run('echo ran > ran');
    expect(result.status).toBe(1);
    const said = `cannot make the scratch directory '${scratch}/ID' on `;
    expect(result.stderr.toString()).toContain(`vmbatch: ${said}`);
    expect(diagValue(bench.diag(), 'LRMSMessage')).toContain(encodeBytes(said));
    expect(existsSync(join(bench.session, 'ran'))).toBe(false);
    expect(bench.diagText()).toMatch(/\nexitcode=1\n$/);
  });

  it('is linked from the session directory where the front end sees it', () => {
    const seen = join(bench.root, 'seen by the front end');
    rmSync(seen, { force: true });
    symlinkSync(scratch, seen);
    run(
      `readlink '${bench.session}/ID'; cat '${bench.session}/std.out' > copy`,
      { outputFiles: ['/copy', '/std.out'] },
      site({ sharedScratch: seen }),
    );
    expect(bench.file('std.out')).toBe(`${seen}/ID\n`);
    expect(bench.file('copy')).toBe(`${seen}/ID\n`);
    expect(listing(bench.session)).toEqual(['copy', 'std.out']);
    expect(() => readlinkSync(join(bench.session, 'ID'))).toThrow('ENOENT');
  });

  it("is named by the guest's own environment first, and may hold variables of it", () => {
    const other = join(bench.root, 'other');
    // biome-ignore lint/suspicious/noTemplateCurlyInString: for the guest's shell
    const variables = '$BASE/of ${WHO}';
    run('pwd', { outputFiles: ['/'] }, site(), { RUNTIME_LOCAL_SCRATCH_DIR: other });
    expect(bench.file('std.out')).toBe(`${other}/ID\n`);
    run('pwd', { outputFiles: ['/'] }, site({ scratchDirectory: variables }), {
      BASE: bench.root,
      WHO: 'a$(id)b',
    });
    expect(bench.file('std.out')).toBe(`${bench.root}/of a$(id)b/ID\n`);
  });

  it('is not used by jobs on several nodes', () => {
    const spread = { count: 4, countPerNode: 2, nodes: 2 };
    run('pwd', spread);
    expect(bench.file('std.out')).toBe(`${bench.session}\n`);
    const variables = new Map([['RUNTIME_ENABLE_MULTICORE_SCRATCH', 'yes']]);
    const job = { ...bench.grami({ args: ['/bin/pwd'] }), ...spread, outputFiles: ['/'] };
    bench.execute(buildBatchScript(job, site(), [], variables));
    expect(bench.file('std.out')).toBe(`${scratch}/ID\n`);
  });

  it('holds the whole job where guests do not see the session directory, and keeps what TORQUE takes back', () => {
    const staged = join(bench.root, 'stage');
    const target = bench.root.includes(' ') ? '/var/tmp/vmbatch-stage-test' : staged;
    rmSync(target, { recursive: true, force: true });
    mkdirSync(join(target, 'ID'), { recursive: true });
    try {
      const configuration = { ...configure(), sharedFilesystem: false, scratchDirectory: target };
      const session = '/not/in/guests/ID';
      const job = {
        ...bench.program('pwd; echo junk > junk; echo x > result'),
        ...{ sessionDirectory: session, stdout: `${session}/log/std.out`, stderr: `${session}/log/std.out` },
        outputFiles: ['/result', '/log/std.out', '/.vmbatch-submission'],
      };
      // Staged in while the submission was under way; brought back it would tell of one that has ended.
      writeFileSync(join(target, 'ID/.vmbatch-submission'), 'token\n');
      const script = buildBatchScript(job, configuration);
      expect(script).toContain(`#PBS -W stagein=${target}@ce.example.org:${session}\n`);
      expect(script).toContain(
        `#PBS -W stageout="${target}/ID@ce.example.org:/not/in/guests,${target}/ID.diag@ce.example.org:${session}.diag"\n`,
      );
      expect(script).toContain(` stage=${target}/ID\n`);
      expect(script).toContain(`#PBS -e ${session}.comment\n`);
      const result = bench.execute(script);
      expect(result.stderr.toString()).toBe('');
      expect(listing(join(target, 'ID'))).toEqual(['log', 'result']);
      expect(readFileSync(join(target, 'ID/log/std.out'), 'utf8')).toBe(`${target}/ID\n`);
      expect(readFileSync(join(target, 'ID.diag'), 'utf8')).toMatch(/\nexitcode=0\n$/);
    } finally {
      chmodSync(target, 0o755);
      rmSync(target, { recursive: true, force: true });
    }
  });
});

describe('buildBatchScript with a scratch directory', () => {
  const bench = new ScriptBench(['/bin/sh']);
  afterAll(() => bench.close());
  const failure = (changes: object) => {
    try {
      buildBatchScript(bench.grami(), { ...configure(), ...changes });
    } catch (error) {
      if (error instanceof VmbatchError) return `${error.fault} ${error.code}`;
      throw error;
    }
    return 'accepted';
  };

  it.each(['$(id)', '/x/`id`', '$\u007bA:-b}', '/x$', '$1'])(
    'refuses %s, which a shell would do more with',
    (text) => {
      expect(failure({ scratchDirectory: text })).toBe('site scratch-refused');
    },
  );

  it('needs a plain directory to stage to', () => {
    expect(failure({ sharedFilesystem: false })).toBe('site scratch-missing');
    expect(failure({ sharedFilesystem: false, scratchDirectory: '$TMPDIR' })).toBe('site scratch-missing');
  });
});
