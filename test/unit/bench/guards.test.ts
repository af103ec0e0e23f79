// What keeps the figures of `npm run bench` from getting worse unnoticed: counts instead of times, of the
// built program.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { Script } from 'node:vm';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { compileTemplate } from '../../../scripts/compile-template.mjs';
import { chunkSource, compiledPath } from '../../../src/util/program/chunk-source.mjs';
import { shellQuote } from '../../../src/util/quote.ts';
import { renderTemplate } from '../../../src/util/templates/template.ts';
import { environment, USER } from '../../bench/measure.ts';
import { folderForFiles, makeSite, makeSubmission, type Site, type SiteOptions } from '../../bench/site.ts';

const root = join(import.meta.dirname, '..', '..', '..');
let program = '';
let site: Site | undefined;
let running: ChildProcess | undefined;

beforeAll(() => {
  const folder = mkdtempSync(join(folderForFiles(), 'vmbatch-guards-'));
  chmodSync(folder, 0o755);
  program = join(folder, 'dist');
  execFileSync(process.execPath, [join(root, 'scripts/build.mjs'), program], { env: environment() });
}, 60_000);
afterEach(() => {
  // Only if the test failed.
  running?.kill('SIGKILL');
  running = undefined;
  site?.remove();
  site = undefined;
});
afterAll(() => {
  rmSync(join(program, '..'), { recursive: true, force: true });
});

interface Trace {
  /** What was required, in order: `node:fs`, `./lib/submit.cjs`. */
  modules: string[];
  /** Arguments of each program that was started. */
  programs: string[][];
  opened: string[];
  bytesRead: number;
}

function makeTestSite(options: SiteOptions): Site {
  site = makeSite(options);
  return site;
}

function start(at: Site, args: readonly string[], asUser = false): { child: ChildProcess; file: string } {
  const file = join(at.scratch, 'trace.json');
  const argv = ['--require', join(import.meta.dirname, 'trace.cjs'), join(program, 'vmbatch'), ...args];
  const child = spawn(process.execPath, argv, {
    env: { ...environment(), PATH: `${at.bin}:${process.env['PATH']}`, TRACE_FILE: file },
    stdio: ['ignore', 'ignore', 'pipe'],
    ...(asUser ? USER : {}),
  });
  running = child;
  child.once('close', () => {
    running = undefined;
  });
  return { child, file };
}

async function traceOf(at: Site, args: readonly string[], asUser = false): Promise<Trace> {
  const { child, file } = start(at, args, asUser);
  let said = '';
  child.stderr?.on('data', (chunk) => {
    said += chunk;
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  expect(code, said).toBe(0);
  return JSON.parse(readFileSync(file, 'utf8'));
}

const chunks = ({ modules }: Trace) =>
  modules.filter((name) => !name.startsWith('node:')).map((name) => basename(name));
/** Chunks that were read together with their compiled form. */
const compiledChunks = ({ opened }: Trace) =>
  [...new Set(opened)].flatMap((path) => (opened.includes(compiledPath(path)) ? [basename(path)] : []));
const builtins = ({ modules }: Trace) => modules.filter((name) => name.startsWith('node:')).sort();
const programs = (trace: Trace) => trace.programs.map(([file = '']) => basename(file));

/** What Node has loaded by itself anyway, or nearly; each of the others costs one to three milliseconds. */
const CHEAP = [
  'node:buffer',
  'node:events',
  'node:fs',
  'node:module',
  'node:path',
  'node:process',
  'node:timers',
];
const HOT = [...CHEAP, 'node:child_process', 'node:os', 'node:vm'];

const asRoot = process.getuid?.() === 0;

describe.skipIf(!asRoot)('the commands that A-REX starts', () => {
  it('--version loads the entry alone, and the entry stays small', async () => {
    const trace = await traceOf(makeTestSite({ jobs: 0, ended: 0 }), ['--version']);
    expect(chunks(trace)).toEqual(['vmbatch']);
    expect(builtins(trace)).toEqual([]);
    expect(statSync(join(program, 'vmbatch')).size).toBeLessThan(8 * 1024);
  });

  it('submit loads its own chunk, no library, and starts qsub and one shell for stage 0', async () => {
    const at = makeTestSite({ jobs: 0, ended: 0 });
    const trace = await traceOf(at, ['submit', '--config', at.ours, makeSubmission(at)()], true);
    expect(chunks(trace)).toEqual(['vmbatch']);
    expect(compiledChunks(trace)).toEqual(['submit.cjs']);
    for (const name of builtins(trace)) expect(HOT).toContain(name);
    // Beside itself.
    expect(trace.programs.length).toBeLessThanOrEqual(3);
    expect(programs(trace).filter((name) => name === 'qsub')).toEqual(['qsub']);
    // Configuration, grami, runtime environment, the chunks: a handful of files.
    expect(new Set(trace.opened).size).toBeLessThanOrEqual(25);
    expect(statSync(join(program, 'lib/submit.cjs')).size).toBeLessThan(96 * 1024);
  });

  it('cancel loads its own chunk, no library, and starts qdel alone', async () => {
    const at = makeTestSite({ jobs: 1, ended: 0 });
    const grami = join(at.control, `job.${at.jobs[0]?.gridId}.grami`);
    const trace = await traceOf(at, ['cancel', '--config', at.ours, grami], true);
    expect(chunks(trace)).toEqual(['vmbatch']);
    expect(compiledChunks(trace)).toEqual(['cancel.cjs']);
    for (const name of builtins(trace)) expect(HOT).toContain(name);
    expect(programs(trace)).toEqual(['qdel']);
    expect(statSync(join(program, 'lib/cancel.cjs')).size).toBeLessThan(40 * 1024);
  });

  it.each([
    ['TORQUE logs', true],
    ['qstat', false],
  ])(
    'a scan by %s starts the same few programs whatever ends, and one gm-kick for all',
    async (_by, logs) => {
      const kinds: string[][] = [];
      for (const ended of [5, 50]) {
        const at = makeTestSite({ jobs: 100, ended, logs });
        const trace = await traceOf(at, ['scan', '--config', at.ours, '--once', at.control]);
        expect(at.reported()).toHaveLength(ended);
        expect(programs(trace).filter((name) => name === 'gm-kick').length).toBeLessThanOrEqual(1);
        expect(trace.programs.length).toBeLessThanOrEqual(5);
        expect(
          chunks(trace).filter((name) => name.includes('vendor') || !/^(vmbatch|scan\.cjs)$/.test(name)),
        ).toEqual([]);
        kinds.push(programs(trace));
        at.remove();
      }
      expect(kinds[1]).toEqual(kinds[0]);
    },
  );

  it('info starts each of the programs of TORQUE at most once, and loads no library', async () => {
    const at = makeTestSite({ jobs: 100, ended: 0 });
    const trace = await traceOf(at, ['info', '--config', at.ours]);
    expect(chunks(trace)).toEqual(['vmbatch']);
    expect(compiledChunks(trace)).toEqual(['info.cjs']);
    expect(trace.programs.length).toBeLessThanOrEqual(4);
  });

  it('a scan that runs opens files for the jobs that end, not for those that are there', async () => {
    const opened: number[] = [];
    for (const jobs of [200, 2_000]) {
      const at = makeTestSite({ jobs, ended: 1, logs: true });
      const { child, file } = start(at, ['scan', '--config', at.ours, at.control]);
      child.stderr?.resume();
      const closed = new Promise((resolve) => child.once('close', resolve));
      await until(() => at.reported().length === 1);
      await setTimeout(1_000);
      child.kill('SIGUSR2');
      await until(() => existsSync(`${file}.1`));
      const next = at.jobs.find(({ state }) => state === 'R');
      if (next !== undefined) at.end(next);
      await until(() => at.reported().length === 2);
      child.kill('SIGUSR2');
      await until(() => existsSync(`${file}.2`));
      child.kill('SIGTERM');
      await closed;
      const trace: Trace = JSON.parse(readFileSync(`${file}.2`, 'utf8'));
      opened.push(trace.opened.length);
      // The log's new lines, some small files of the job; not the whole log, not everybody's status.
      expect(trace.bytesRead).toBeLessThan(200_000);
      at.remove();
    }
    expect(opened[1]).toBeLessThan((opened[0] ?? 0) + 100);
  }, 60_000);
});

it.skipIf(!asRoot)('the prologue takes the compiled form of the libraries that it loads, too', async () => {
  const at = makeTestSite({ jobs: 0, ended: 0 });
  // Others may not write there.
  const own = mkdtempSync(join(tmpdir(), 'vmbatch-guards-node-'));
  const file = join(own, 'node.yaml');
  const text = `queues: [vmalice]
state: ${own}/state
log: ${own}/log
images: { demo: { path: /images/demo.qcow2 } }
share: { type: nfs, server: "10.0.2.2:/share", path: /shared }
`;
  writeFileSync(file, text, { mode: 0o600 });
  // Of a queue that is not served: the node file is read, and that is all.
  // Tests that look for processes of their own jobs run beside this one.
  const job = ['1.guards', 'nobody', 'nogroup', 'job', 'nodes=1', 'other', '', join(own, '1.SC')];
  const places = ['--config', file, '--state', join(own, 'state')];
  const trace = await traceOf(at, ['prologue', ...places, ...job]).finally(() =>
    rmSync(own, { recursive: true }),
  );
  expect(compiledChunks(trace).sort()).toEqual(['prologue.cjs', 'yaml.cjs']);
});

it('the compiled form of each command that A-REX starts is taken by this Node', () => {
  for (const name of ['cancel', 'info', 'scan', 'submit']) {
    const file = join(program, `lib/${name}.cjs`);
    const cachedData = readFileSync(compiledPath(file));
    const script = new Script(chunkSource(readFileSync(file, 'latin1')), { filename: file, cachedData });
    expect(script.cachedDataRejected, name).toBe(false);
  }
});

it('a command works without its compiled form, as with another Node than that of the build', () => {
  const folder = join(program, '../other-node');
  cpSync(program, folder, { recursive: true });
  rmSync(compiledPath(join(folder, 'lib/submit.cjs')));
  const argv = [join(folder, 'vmbatch'), 'submit', '--help'];
  expect(execFileSync(process.execPath, argv, { encoding: 'utf8' })).toContain('vmbatch submit --config');
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await setTimeout(20);
}

it('a template that was compiled beforehand gives what EJS gives; EJS itself is there for templates of sites alone', () => {
  const values = [['NAME', `it's & "so" <%= 1 %>`]];
  const data = { values, variables: values, folder: "/srv/it's", requested: [], name: 'x' };
  for (const name of ['context.sh', 'stage-zero.sh']) {
    const source = compileTemplate(join(root, 'templates', `${name}.ejs`));
    const compiled = new Function(`return ${source}`)();
    const text = compiled(data, (value: unknown) => shellQuote(String(value)));
    expect(text).toContain(`NAME='it'\\''s & "so" <%= 1 %>'\n`);
    expect(text).toBe(renderTemplate(name, data, 'sh'));
  }
  const files = readdirSync(program, { recursive: true, encoding: 'utf8' });
  // Not one of our own templates; the compiler is a chunk of its own, which nothing loads that does without.
  const named = files.filter((name) => name.includes('ejs') && !name.startsWith('share/examples/'));
  expect(named.filter((name) => !name.endsWith('.LEGAL.txt'))).toEqual(['lib/vendor/ejs.cjs']);
});
