// A site whose Node refuses to change its own ids, as Debian 13's does: every program of vmbatch, on the CE
// and on the node.
import type { ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createGridJob, jalienJob, startScan, stopScan } from '../site/grid-job.ts';
import { runSheltered } from '../site/sheltered.ts';
import type { Site } from '../site/site.ts';
import { useFakeSite } from './fake-site.ts';

const END_MS = 40_000;
const theSite = useFakeSite('own-ids');
let site: Site;
let scan: ChildProcess;

beforeAll(() => {
  site = theSite();
  const program = join(site.dist, 'vmbatch');
  const refusal = readFileSync(new URL('../support/no-own-ids.cjs', import.meta.url), 'utf8');
  // Behind the line that names Node.
  writeFileSync(
    program,
    readFileSync(program, 'utf8').replace('\n', () => `\n${refusal}\n`),
  );
  site.configureNode({});
  scan = startScan(site);
}, 60_000);
afterAll(async () => {
  await stopScan(scan);
  expect(readFileSync(join(site.directory, 'scan.log'), 'utf8')).not.toContain('io_uring');
});

const grid = (script: string) =>
  createGridJob(site, jalienJob(`#!/bin/bash\n${script}\n`, { name: 'in', text: '' }));

it('every program of it refuses', async () => {
  const program = readFileSync(join(site.dist, 'vmbatch'), 'utf8');
  expect(program.startsWith('#!/usr/bin/env node\n')).toBe(true);
  expect(program).toContain("'seteuid'");
});

it('a job runs, its record is completed, its output passed on, and no ready file is left', async () => {
  const job = grid('echo from the guest >&2; exit 7');
  expect((await job.submit()).exitCode).toBe(0);
  expect(await job.waitForEnd(END_MS)).toEqual({ code: 7, text: 'Job exited with code 7' });
  expect(readFileSync(`${job.session}.diag`, 'utf8')).toMatch(/^exitcode=7\n(.*\n)*LRMSExitcode=/m);
  const ready = join(site.share, '.vmbatch/ready');
  const readyFiles = () => (existsSync(ready) ? readdirSync(ready).filter((name) => /^\d/.test(name)) : []);
  for (let tries = 0; tries < 200 && readyFiles().length > 0; tries++) await sleep(50);
  expect(readyFiles()).toEqual([]);
});

it('what the prologue refuses tells its owner why', async () => {
  const job = grid('true');
  const text = readFileSync(site.arcConf, 'utf8');
  writeFileSync(site.arcConf, text.replace(/^image\s*=.*$/m, 'image=nosuch'));
  try {
    expect((await job.submit()).exitCode).toBe(0);
  } finally {
    writeFileSync(site.arcConf, text);
  }
  expect(await job.waitForEnd(END_MS)).toMatchObject({
    text: expect.stringMatching(
      /site fault: the image "?nosuch"? is named by arc\.conf of localhost, not by the job/,
    ),
  });
  expect(readFileSync(job.file('errors'), 'utf8')).toContain('nosuch');
});

it('what the CE refuses tells its owner why', async () => {
  const job = grid('true');
  const grami = readFileSync(job.file('grami'), 'utf8');
  writeFileSync(job.file('grami'), `${grami}joboption_runtime_0=NO/SUCH\n`);
  expect((await job.submit()).localId).toMatch(/^refused\./);
  expect(await job.waitForEnd(END_MS)).toMatchObject({ text: expect.stringContaining('NO/SUCH') });
});

it('the node can test itself, and the reaper finds nothing', async () => {
  const command = (...words: string[]) =>
    runSheltered(join(site.dist, 'vmbatch'), [...words, '--config', site.nodeFile], {
      env: { ...site.env, PATH: `${join(site.directory, 'fake/bin')}:${site.env['PATH']}` },
    });
  const tested = await command('node', 'self-test');
  expect(tested.exitCode, tested.stdout + tested.stderr).toBe(0);
  expect(await command('reap')).toMatchObject({ exitCode: 0 });
});
