import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findRequestLine } from '../../../../src/guest/grant.ts';
import { installHooks, uninstallHooks } from '../../../../src/node/hooks/install.ts';
import { renderShim } from '../../../../src/node/hooks/shim.ts';
import { parseNodeConfig } from '../../../../src/node-file/read.ts';

let directory: string;
let mom: string;
let starter: string;
let vmbatch: string;

const PROLOGUE = (queue: string) => [
  '112.vm',
  'alice',
  'alice',
  'job',
  'nodes=1',
  queue,
  '',
  '/mom/112.vm.SC',
];
const EPILOGUE = (queue: string) => [
  '112.vm',
  'alice',
  'alice',
  'job',
  '1',
  'nodes=1',
  'cput=0',
  queue,
  '',
  '0',
  '/mom/112.vm.SC',
];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-hooks-'));
  chmodSync(directory, 0o755);
  mom = join(directory, 'mom priv');
  starter = join(directory, 'job starter');
  mkdirSync(mom);
  vmbatch = join(directory, 'vmbatch');
  writeFileSync(vmbatch, '');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Installs the shims with a "Node" that only says how it was called. */
function install(): void {
  const node = join(directory, "no'de");
  writeFileSync(node, '#!/bin/sh\nprintf "[%s]" "$@"; printf " options=%s" "$NODE_OPTIONS"\n');
  chmodSync(node, 0o755);
  const configFile = join(directory, 'node.yaml');
  const text = `queues: [vmalice, other]
state: ${directory}/state
images: { demo: { path: /images/demo.qcow2 } }
share: { type: nfs, server: "10.0.2.2:/share", path: /share }
`;
  writeFileSync(configFile, text);
  const past = new Date(Date.now() - 60_000);
  utimesSync(configFile, past, past);
  const config = parseNodeConfig(text, configFile);
  installHooks({ config, configFile, momDirectory: mom, jobStarter: starter, node, vmbatch });
}

function call(file: string, args: string[], env: Record<string, string> = {}, input = '', uid = 0) {
  const options = { encoding: 'utf8', env: { PATH: '/usr/bin:/bin', ...env }, input, uid } as const;
  const result = spawnSync(file, args, options);
  return { status: result.status, stdout: result.stdout, stderr: result.stderr };
}

describe.runIf(process.getuid?.() === 0)('installHooks', () => {
  it('makes hooks that the mom accepts: owned by root, not writable for others', () => {
    install();
    for (const name of ['prologue', 'epilogue'])
      expect(statSync(join(mom, name))).toMatchObject({ uid: 0, mode: 0o100500 });
    expect(statSync(starter).mode & 0o777).toBe(0o755);
    install(); // and again, over its own
  });

  it('does not overwrite a hook that is not ours', () => {
    writeFileSync(join(mom, 'prologue'), '#!/bin/sh\n# the site has its own\n');
    expect(install).toThrow(/prologue is there already and is not from vmbatch/);
    expect(readFileSync(join(mom, 'prologue'), 'utf8')).toContain('its own');
  });

  it('takes its hooks away again and leaves those of others', () => {
    install();
    writeFileSync(join(mom, 'epilogue'), '#!/bin/sh\n# the site has its own\n');
    const place = { momDirectory: mom, jobStarter: undefined };
    expect(uninstallHooks(place)).toEqual([
      ...['prologue', 'prologue.parallel', 'epilogue.parallel'].map((name) => join(mom, name)),
      starter,
    ]);
    expect(readdirSync(mom)).toEqual(['epilogue']);
    expect(uninstallHooks(place)).toEqual([]);
  });

  it('does not take the epilogue from under a job that has a guest', () => {
    install();
    mkdirSync(join(directory, 'state/jobs/112.vm'));
    const place = { momDirectory: mom, jobStarter: undefined };
    expect(() => uninstallHooks(place)).toThrow(/guests of jobs on this node still: 112\.vm/);
    expect(readdirSync(mom)).toHaveLength(4);
  });

  it('lets jobs of other queues pass without starting Node', () => {
    install();
    expect(call(join(mom, 'prologue'), PROLOGUE('plain'))).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(call(join(mom, 'epilogue'), EPILOGUE('plain'))).toEqual({ status: 0, stdout: '', stderr: '' });
  });

  it.each(['vmalice', 'other'])('hands the arguments of a job of the queue %s on as they are', (queue) => {
    install();
    const { stdout } = call(join(mom, 'prologue'), PROLOGUE(queue), { NODE_OPTIONS: '--evil' });
    const options = ['--config', join(directory, 'node.yaml'), '--state', join(directory, 'state')];
    const words = [vmbatch, 'prologue', ...options, ...PROLOGUE(queue)];
    expect(stdout).toBe(`${words.map((word) => `[${word}]`).join('')} options=`);
    expect(call(join(mom, 'epilogue'), EPILOGUE(queue)).stdout).toContain('[epilogue]');
  });

  it('asks Node when the node file is newer than the list of queues', () => {
    install();
    const future = new Date(Date.now() + 60_000);
    utimesSync(join(directory, 'node.yaml'), future, future);
    expect(call(join(mom, 'prologue'), PROLOGUE('plain')).stdout).toContain('[prologue]');
  });

  it.each<[string, string, boolean]>([
    ['asks for a guest', '#!/bin/sh\n#PBS -N x\n\n  # said\n#VMBATCH image=demo\necho hi\n', true],
    ['asks for one with no words, in a line with CR', '#!/bin/sh\n#VMBATCH\r\n', true],
    ['ends within that line', '#!/bin/sh\n#VMBATCH memory=1GiB', true],
    ['has the line after its first command', '#!/bin/sh\n  true\n#VMBATCH image=demo\n', false],
    ['has an indented one', '#!/bin/sh\n #VMBATCH image=demo\ntrue\n', false],
    ['has a word that begins so', '#!/bin/sh\n#VMBATCHED\ntrue\n', false],
    ['is one long line', 'x'.repeat(3_000_000), false],
    ['is binary', '\x7fELF\0\0\n#VMBATCH image=demo\n', false],
    ['is empty', '', false],
  ])('asks Node about a job of another queue whose script %s, only then', (_what, text, asks) => {
    install();
    const script = join(directory, '112.vm.SC');
    writeFileSync(script, text);
    const words = [...PROLOGUE('plain').slice(0, -1), script];
    const { status, stdout, stderr } = call(join(mom, 'prologue'), words);
    expect({ status, stderr, asked: stdout.includes('[prologue]') }).toEqual({
      status: 0,
      stderr: '',
      asked: asks,
    });
    expect(findRequestLine(text) !== undefined).toBe(asks);
  });

  it('cleans up after a job that has a record, though its queue is served no longer', () => {
    install();
    mkdirSync(join(directory, 'state/jobs/112.vm'));
    expect(call(join(mom, 'epilogue'), EPILOGUE('plain')).stdout).toContain('[epilogue]');
  });
});

describe.runIf(process.getuid?.() === 0)('the job starter', () => {
  const job = { PBS_QUEUE: 'vmalice', PBS_JOBID: '112.vm', LOGNAME: 'root' };

  it('has a job of a served queue run in its guest, by a Node without the options of the job', () => {
    install();
    const { stdout } = call(starter, ['/bin/bash'], { ...job, NODE_OPTIONS: '--max-old-space-size=1' });
    const words = `[${vmbatch}][run][--state][${directory}/state][--for][PID][/bin/bash]`;
    expect(stdout.replace(/\[\d+\]/, '[PID]')).toContain(words);
    expect(stdout).not.toContain('--max-old-space-size');
  });

  it('refuses to start anything as root for somebody else', () => {
    install();
    const other = { ...job, PBS_QUEUE: 'plain', LOGNAME: 'nobody' };
    const { status, stdout, stderr } = call(starter, ['/bin/sh'], other, 'echo ran\n');
    expect({ status, stdout }).toEqual({ status: 251, stdout: '' });
    expect(stderr).toContain('$job_starter_run_privileged');
  });

  it("starts another queue's job as a login shell with the same stdin, as the mom does", () => {
    install();
    const program = 'shopt -q login_shell && echo login; exit 5\n';
    const result = call(starter, ['/bin/bash'], { ...job, PBS_QUEUE: 'plain', HOME: directory }, program);
    expect(result).toMatchObject({ status: 5, stdout: 'login\n' });
  });

  it('starts a shell chosen with qsub -S without making it a login shell', () => {
    install();
    const program = 'echo "$0 $#"\n';
    expect(call(starter, ['/bin/sh'], { ...job, PBS_QUEUE: 'plain' }, program).stdout).toBe('/bin/sh 0\n');
  });

  it.each([
    ['vmalice', '[run]'],
    ['plain', 'on the node'],
  ])('knows without the list of queues where a job of %s belongs', (queue, expected) => {
    install();
    rmSync(join(directory, 'state/queues'));
    const result = call(starter, ['/bin/sh'], { ...job, PBS_QUEUE: queue }, 'echo on the node\n');
    expect(result.stdout).toContain(expected);
  });

  it('adds nothing to the command line of a shell that is not the one of the account', () => {
    install();
    const perl = call(
      starter,
      ['/usr/bin/perl'],
      { ...job, PBS_QUEUE: 'plain', LOGNAME: 'no-such-account' },
      'print "@ARGV|"',
      65534,
    );
    expect(perl).toMatchObject({ status: 0, stdout: '|', stderr: '' });
  });
});

describe('renderShim', () => {
  it('changes only the lines that are there for it, whatever is in the value', () => {
    const value = "it's $& \\1 $HOME";
    const shim = renderShim('#!/bin/sh\nnode=/usr/bin/node\necho "$node"\n', { node: value, absent: 'x' });
    expect(shim).toBe(`#!/bin/sh\nnode='it'\\''s $& \\1 $HOME'\necho "$node"\n`);
  });
});
