import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeRun, type Run, run } from '../../../../src/util/processes/run.ts';
import { spawnRun } from '../../../../src/util/processes/spawn-run.ts';
import { readIfThere } from '../../../support/files.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmbatch-run-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const shell = (execute: Run, script: string, options = {}) => execute('sh', ['-c', script], options);

describe.each<[string, Run]>([
  ['run', run],
  ['spawnRun', spawnRun],
])('%s', (_name, execute) => {
  it('keeps the output of a program, and gives it away as it comes when asked to', async () => {
    const kept = await shell(execute, 'cat; echo said >&2; exit 3', { input: 'given é' });
    expect(kept).toMatchObject({ stdout: 'given é', stderr: 'said\n', exitCode: 3, signal: undefined });
    expect(kept.command).toBe('sh -c cat; echo said >&2; exit 3');
    let bytes = 0;
    const streamed = await shell(execute, 'seq 1 300000; echo said >&2; exit 3', {
      maxBytes: 1024,
      onStdout: (chunk: Uint8Array) => {
        bytes += chunk.length;
      },
    });
    expect(streamed).toMatchObject({ stdout: '', stderr: 'said\n', exitCode: 3 });
    expect(bytes).toBe(1_988_895);
  });

  it('gives the program /dev/null as stdin unless there is input', async () => {
    expect(await shell(execute, 'readlink /proc/self/fd/0')).toMatchObject({ stdout: '/dev/null\n' });
  });

  it('gives the program an open file as stdin, from where it stands', async () => {
    const path = join(folder, 'stdin');
    writeFileSync(path, 'from a file\n');
    const stdinFd = openSync(path, 'r');
    try {
      expect(await execute('cat', [], { stdinFd })).toMatchObject({ stdout: 'from a file\n', exitCode: 0 });
      expect(await execute('cat', [], { stdinFd })).toMatchObject({ stdout: '', exitCode: 0 });
    } finally {
      closeSync(stdinFd);
    }
  });

  it('takes input of any bytes, and does not mind a program that does not read it', async () => {
    const input = new Uint8Array(4 * 1024 * 1024).fill(0xff);
    const digest = createHash('sha256').update(input).digest('hex');
    expect(await execute('sha256sum', [], { input })).toMatchObject({ stdout: `${digest}  -\n` });
    expect(await execute('true', [], { input })).toMatchObject({ exitCode: 0, signal: undefined });
  });

  it('says so when there is no such program, or it may not be executed', async () => {
    expect(await execute(join(folder, 'absent'), [])).toMatchObject({ notFound: true, exitCode: undefined });
    const path = join(folder, 'plain');
    writeFileSync(path, '#!/bin/sh\n', { mode: 0o644 });
    expect(await execute(path, [])).toMatchObject({ notFound: true, exitCode: undefined });
  });

  it('fails without an exception when the system refuses the arguments', async () => {
    const result = await execute('true', ['x'.repeat(4 * 1024 * 1024)]);
    expect(result).toMatchObject({ notFound: false, exitCode: undefined, timedOut: false });
    expect(describeRun(result)).toContain('true could not be started');
  });

  it('runs in the folder and with exactly the environment that it is given', async () => {
    const result = await execute('/bin/sh', ['-c', 'pwd -P; /usr/bin/env'], {
      cwd: '/',
      env: { ONLY: 'this' },
    });
    expect(result.stdout.split('\n')[0]).toBe('/');
    const names = result.stdout.split('\n').map((line) => line.split('=')[0]);
    expect(names).toContain('ONLY');
    expect(names).not.toContain('PATH');
  });

  it('reports the signal that a program died of', async () => {
    expect(await shell(execute, 'kill -USR1 $$')).toMatchObject({ exitCode: undefined, signal: 'SIGUSR1' });
  });

  it('ends a program that takes too long by SIGTERM, keeping what it said', async () => {
    const result = await shell(execute, 'echo so far; exec sleep 60', { timeoutMs: 500 });
    expect(result).toMatchObject({ timedOut: true, signal: 'SIGTERM', stdout: 'so far\n', cancelled: false });
    expect(result.seconds).toBeLessThan(20);
  });

  it('kills a program that ignores SIGTERM', async () => {
    const result = await shell(execute, 'trap "" TERM; while :; do sleep 0.1; done', { timeoutMs: 300 });
    expect(result).toMatchObject({ timedOut: true, signal: 'SIGKILL' });
  });

  it('ends a program when the caller cancels it, and starts none that is cancelled already', async () => {
    const controller = new AbortController();
    const marker = join(folder, 'marker');
    const running = shell(execute, `echo > ${marker}; exec sleep 60`, { signal: controller.signal });
    while (!existsSync(marker)) await new Promise((resolve) => setTimeout(resolve, 20));
    controller.abort();
    expect(await running).toMatchObject({ cancelled: true, timedOut: false });
    rmSync(marker);
    const options = { signal: controller.signal };
    expect(await shell(execute, `echo > ${marker}`, options)).toMatchObject({ cancelled: true });
  });

  it('ends a program that says more than is kept, and keeps the beginning', async () => {
    const result = await execute('yes', [], { maxBytes: 1000 });
    expect(result.stdout).toBe('y\n'.repeat(500));
    expect(result.exitCode).not.toBe(0);
    expect(result.timedOut).toBe(false);
  });
});

it('spawnRun keeps what a program with files says on both streams, up to the bound, and its exit code', async () => {
  const said = await shell(spawnRun, 'echo é; echo why >&2; exit 3', { viaFiles: true });
  expect(said).toMatchObject({ stdout: 'é\n', stderr: 'why\n', exitCode: 3, timedOut: false });
  const long = await shell(spawnRun, 'echo 0123456789; echo done >&2', { viaFiles: true, maxBytes: 4 });
  expect(long).toMatchObject({ stdout: '0123', stderr: 'done', exitCode: 0 });
});

it('spawnRun ends a program with files that takes too long, keeps what it said, and waits for nobody it left behind', async () => {
  const result = await shell(spawnRun, 'sleep 60 & echo $!; wait', { timeoutMs: 500, viaFiles: true });
  process.kill(Number(result.stdout));
  expect(result).toMatchObject({ timedOut: true, signal: 'SIGTERM' });
  expect(result.seconds).toBeLessThan(40);
});

it('spawnRun says so when there is no such terse program', async () => {
  expect(await spawnRun('/nonexistent/qsub', [], { viaFiles: true })).toMatchObject({
    notFound: true,
    exitCode: undefined,
  });
});

it('spawnRun does not wait for what a program left behind with its pipes once it was told to end', async () => {
  const result = await shell(spawnRun, 'sleep 60 & echo $!; wait', { timeoutMs: 500 });
  process.kill(Number(result.stdout));
  expect(result).toMatchObject({ timedOut: true, signal: 'SIGTERM' });
  expect(result.seconds).toBeLessThan(40);
});

it('a signal that ends the program ends what spawnRun started as well', async () => {
  const pidFile = join(folder, 'pid');
  const bundle = join(folder, 'spawn-run.cjs');
  await build({
    entryPoints: ['src/util/processes/spawn-run.ts'],
    outfile: bundle,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    external: ['execa'],
  });
  const script = `require(${JSON.stringify(bundle)}).spawnRun('sh', ['-c', 'echo $$ > ${pidFile}; exec sleep 60'])`;
  const parent = spawn(process.execPath, ['-e', script], { stdio: 'ignore' });
  const ended = new Promise((resolve) => parent.once('exit', (_code, signal) => resolve(signal)));
  let pid = 0;
  while (pid === 0) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    pid = Number(readIfThere(pidFile).trim());
  }
  parent.kill('SIGTERM');
  expect(await ended).toBe('SIGTERM');
  // Nobody is told when it is gone: it is no child of ours, and may wait as a zombie for whoever reaps it.
  while (/^State:\t[^Z]/m.test(readIfThere(`/proc/${pid}/status`)))
    await new Promise((resolve) => setTimeout(resolve, 20));
});
