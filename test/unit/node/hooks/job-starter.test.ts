// The job starter as the mom starts it: the installed shim, our Node, a real SSH server, with the limits and
// the environment that TORQUE gives them.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readOutcome, sessionPaths, writeSession } from '../../../../src/guest/session/session-file.ts';
import { renderShim } from '../../../../src/node/hooks/shim.ts';
import { resourcePath } from '../../../../src/util/program/resources.ts';
import { startUserGuest, type UserGuest } from '../../../support/user-guest.ts';

const JOB = '7.server';
const MIB = 1024 ** 2;

let guest: UserGuest;
let directory: string;

beforeAll(async () => {
  guest = await startUserGuest('dropbear', '/bin/bash');
});
afterAll(() => guest?.close());
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-starter-'));
  chmodSync(directory, 0o755);
});
afterEach(() => {
  rmSync(directory, { recursive: true });
  rmSync(`/var/tmp/vmbatch-${JOB}`, { recursive: true, force: true });
});

interface Start {
  script?: string;
  /** Options of prlimit. */
  limits?: string[];
  environment?: Record<string, string>;
  shim?: Record<string, string>;
  /** What the mom would start without us. */
  shell?: string;
  /** A file instead of a pipe for the job's stdout. */
  output?: string;
}

/** What the mom does: as the user, with the path of the script on stdin. */
function prepare({
  script = 'exit 7',
  limits = [],
  environment = {},
  shim = {},
  shell = '/bin/bash',
}: Start) {
  const state = join(directory, 'state');
  mkdirSync(join(state, 'sessions'), { recursive: true });
  writeFileSync(join(state, 'queues'), 'vmalice\n');
  const starter = join(directory, 'starter');
  const values = { node: process.execPath, vmbatch: resourcePath('dist/vmbatch'), state, ...shim };
  const text = renderShim(readFileSync(resourcePath('share/hooks/job-starter'), 'utf8'), values);
  writeFileSync(starter, text, { mode: 0o755 });
  const file = join(directory, `${JOB}.SC`);
  writeFileSync(file, `#!/bin/bash\n${script}\n`, { mode: 0o700 });
  chownSync(file, guest.uid, guest.uid);
  const { host, port, privateKey, hostKey, user: login, otherUser: user = '' } = guest.connection;
  const paths = sessionPaths(state, JOB);
  writeSession(
    paths,
    {
      ...{ version: 1, jobId: JOB, host, port, user, login, privateKey, hostKey, loginShell: '/bin/bash' },
      ...{ connectMs: 5000, reconnectMs: 5000, heartbeatMs: 60_000, environment: {}, afterJobSeconds: 0 },
    },
    { uid: guest.uid, gid: guest.uid },
  );
  const account = [`--reuid=${guest.uid}`, `--regid=${guest.uid}`, '--clear-groups'];
  const variables = {
    ...{ PATH: '/usr/bin:/bin', HOME: guest.home, LOGNAME: user, SHELL: '/bin/bash', USER: user },
    ...{ PBS_JOBID: JOB, PBS_QUEUE: 'vmalice' },
    ...environment,
  };
  return {
    paths,
    file: '/usr/bin/setpriv',
    // env comes last: what the job has in its environment is not for these programs.
    arguments: [
      ...[...account, '/usr/bin/prlimit', ...limits, '--', '/usr/bin/env', '-i'],
      ...Object.entries(variables).map(([name, value]) => `${name}=${value}`),
      ...[starter, shell],
    ],
    options: { input: `${file}\n` },
  };
}

function start(how: Start) {
  rmSync(`/var/tmp/vmbatch-${JOB}`, { recursive: true, force: true });
  const { paths, file, arguments: words, options } = prepare(how);
  const output = how.output === undefined ? undefined : openSync(how.output, 'w');
  const { status, signal, stdout, stderr } = spawnSync(file, words, {
    ...options,
    stdio: ['pipe', output ?? 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 100 * MIB,
  });
  if (output !== undefined) closeSync(output);
  return { status, signal, stdout, stderr, outcome: readOutcome(paths, guest.uid) };
}

const isRoot = process.getuid?.() === 0;

describe.runIf(isRoot)('the job starter, with what the job has asked TORQUE for', () => {
  it.each([
    ['vmem=768mb', [`--as=${768 * MIB}`]],
    ['mem=80mb', [`--data=${80 * MIB}`, `--rss=${80 * MIB}`]],
    ['pmem=100mb,pvmem=1gb', [`--data=${100 * MIB}`, `--as=${1024 * MIB}`]],
    ['nothing', []],
  ])('runs a job with %s and brings all of its output', (_, limits) => {
    const { status, stdout, stderr } = start({ limits, script: 'head -c 40000000 /dev/zero; exit 7' });
    expect([status, stdout.length, stderr]).toEqual([7, 40_000_000, '']);
  });

  it.each([
    ['virtual memory (vmem, pvmem) 256 MiB', [`--as=${256 * MIB}`]],
    ['virtual memory (vmem, pvmem) 767 MiB', [`--as=${767 * MIB}`]],
    ['memory (mem, pmem) 64 MiB', [`--data=${64 * MIB}`]],
    ['memory (mem, pmem) 10 MiB', [`--as=${2048 * MIB}`, `--data=${10 * MIB}`]],
  ])('says at once that %s is too small, and that it is the fault of the job', (limit, limits) => {
    const begun = performance.now();
    const { status, stdout, stderr, outcome } = start({ limits });
    expect(performance.now() - begun).toBeLessThan(3_000);
    expect([status, stdout]).toEqual([250, '']);
    expect(stderr).toContain(limit);
    expect(stderr).toMatch(/^vmbatch: job fault: .*\[limit-too-small\]\nvmbatch: what to do: /);
    expect(outcome).toMatchObject({ fault: 'job', code: 'limit-too-small' });
  });

  it('lets files of the job grow as far as the job has asked, its output too', () => {
    const output = join(directory, 'output');
    const script = 'for i in 1 2 3 4; do head -c 3000 /dev/zero; done; exit 7';
    const { status, stderr } = start({ limits: ['--fsize=8192'], output, script });
    expect([status, statSync(output).size]).toEqual([7, 8192]);
    expect(stderr).toContain('File size limit exceeded');
  });

  it('gives the job the limits on files and processes that it would have on the node', () => {
    const limits = ['--nofile=300:700', '--nproc=3000:5000', '--core=0:1048576', '--stack=4194304:8388608'];
    const { stdout } = start({ limits, script: 'for f in n u c s; do ulimit -S$f; ulimit -H$f; done' });
    expect(stdout.split('\n')).toEqual(['300', '700', '3000', '5000', '0', '1024', '4096', '8192', '']);
  });
});

describe.runIf(isRoot)('the job starter, with what the job has in its environment', () => {
  it.each([
    ...[
      'OPENSSL_CONF=/etc/hosts',
      'OPENSSL_MODULES=/nowhere',
      'SSL_CERT_FILE=/nowhere',
      'SSL_CERT_DIR=/nowhere',
    ],
    ...['LD_PRELOAD=/nowhere.so', 'LD_LIBRARY_PATH=/nowhere', 'LD_BIND_NOW=1', 'LD_DEBUG_OUTPUT=/tmp/x'],
    ...[
      'NODE_OPTIONS=--nonsense',
      'NODE_PATH=/nowhere',
      'NODE_EXTRA_CA_CERTS=/nowhere',
      'NODE_DEBUG=net,child_process',
    ],
    ...[
      'NODE_V8_COVERAGE=/nowhere',
      'NODE_PENDING_DEPRECATION=1',
      'UV_THREADPOOL_SIZE=0',
      'NODE_ICU_DATA=/nowhere',
    ],
    ...[
      'PATH=/nowhere',
      'IFS=vmb/',
      'BASH_ENV=/nowhere',
      'ENV=/nowhere',
      'CDPATH=/',
      'HOME=/',
      'TMPDIR=/nowhere',
    ],
    ...[
      'LANG=xx_YY',
      'LC_ALL=tr_TR.UTF-8',
      'TZ=nonsense',
      'MALLOC_PERTURB_=5',
      'GLIBC_TUNABLES=glibc.malloc.check=3',
    ],
    ...[
      'POSIXLY_CORRECT=1',
      'TERM=nonsense',
      'PS4=$(exit 9)',
      'SHELLOPTS=braceexpand:errexit:nounset',
      'OPTIND=7',
    ],
    ...[
      'BASH_FUNC_read%%=() { exit 9;\n}',
      'BASH_FUNC_[%%=() { exit 9;\n}',
      'not-a-name=1',
      'VMBATCH_KEPT_X=1',
    ],
    ...['node=/nowhere', 'state=/nowhere', 'served=no', 'outcome=/nowhere', 'limits=x', 'code=0', 'said=x'],
  ])('hands %s on to the job and has nothing of it itself', (entry) => {
    const at = entry.indexOf('=');
    const environment = { [entry.slice(0, at)]: entry.slice(at + 1) };
    // As with qsub -S: a shell that prints what it finds, and makes nothing of it.
    const { status, stdout, stderr } = start({ environment, shell: '/usr/bin/env' });
    // The shells of node and guest say what they think of it, too, as the node's would without us.
    expect(stderr).not.toMatch(/vmbatch|node/);
    expect([status, `\n${stdout}`]).toEqual([0, expect.stringContaining(`\n${entry}\n`)]);
  });
});

describe.runIf(isRoot)('the job starter, when it cannot do its work', () => {
  it('says that Node is not where it was', () => {
    const { status, stderr } = start({ shim: { node: '/nowhere/node' } });
    expect(status).toBe(251);
    expect(stderr).toMatch(
      /^vmbatch: node fault: the job starter calls \/nowhere\/node, .*\[starter-program\]\n/,
    );
  });

  it('says that the program is in a folder that users cannot enter', () => {
    const closed = join(directory, 'closed');
    mkdirSync(closed, { mode: 0o700 });
    writeFileSync(join(closed, 'vmbatch'), '');
    const { status, stderr } = start({ shim: { vmbatch: join(closed, 'vmbatch') } });
    expect(status).toBe(251);
    expect(stderr).toContain('the folders above it must be open to all');
  });

  it.each([
    ['kill -ABRT $$', [], 251, 'node', 'starter-died'],
    ['kill -SEGV $$', [`--as=${4096 * MIB}`], 250, 'job', 'limit-too-small'],
    ['kill -KILL $$', [], 251, 'node', 'starter-died'],
    ['exit 101', [], 251, 'node', 'starter-died'],
    ['exit 1', [`--data=${96 * MIB}`], 250, 'job', 'limit-too-small'],
  ])("is not silent about a Node that ends by itself ('%s' %j)", (end, limits, exitCode, fault, code) => {
    const node = join(directory, 'node');
    writeFileSync(node, `#!/bin/sh\n${end}\n`, { mode: 0o755 });
    const { status, stderr, outcome } = start({ limits, shim: { node } });
    expect([status, outcome]).toEqual([exitCode, expect.objectContaining({ fault, code })]);
    expect(stderr).toContain(`vmbatch: ${fault} fault: `);
  });

  it('ends with the job where its own word of that cannot be taken back', () => {
    expect(start({ script: 'exit 250' })).toMatchObject({
      status: 250,
      stderr: '',
      outcome: { exitCode: 250 },
    });
    expect(start({ script: 'kill -SEGV $$' })).toMatchObject({ status: 139, outcome: { exitCode: 139 } });
  });
});

describe.runIf(isRoot)('the job starter, when the mom signals all processes of the job', () => {
  it.each(['SIGTERM', 'SIGUSR1'] as const)(
    'dies of %s as the job has, when that is through',
    async (name) => {
      const {
        file,
        arguments: words,
        options,
      } = prepare({
        script: `trap 'sleep 0.3; echo in order; trap - ${name.slice(3)}; kill -${name} $$' ${name.slice(3)}; echo up; while :; do sleep 0.1; done`,
      });
      const child = spawn(file, words, { ...options, detached: true });
      child.stdin.end(options.input);
      let said = '';
      child.stdout.on('data', (data) => {
        said += String(data);
        if (said === 'up\n') process.kill(-(child.pid ?? 0), name);
      });
      const [code, signal] = await once(child, 'close');
      expect([code, signal, said]).toEqual([null, name, 'up\nin order\n']);
    },
  );
});
