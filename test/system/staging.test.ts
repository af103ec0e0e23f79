// A grid job of a CE with `shared_filesystem = no`: its files go to the node, into the guest and back. On
// fake guests, which do not see the node's /var/tmp.
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createGridJob, jalienJob, startScan, stopScan } from '../site/grid-job.ts';
import type { Site } from '../site/site.ts';
import { useFakeSite } from './fake-site.ts';

const SCRATCH = `/var/tmp/vmbatch-scratch-${process.pid}`;
const JOB_MS = 60_000;

const theSite = useFakeSite('staging');
let site: Site;

beforeAll(() => {
  site = theSite();
  mkdirSync(SCRATCH);
  chownSync(SCRATCH, site.account.uid, site.account.gid);
  const configuration = readFileSync(site.arcConf, 'utf8');
  writeFileSync(
    site.arcConf,
    configuration.replace('[arex]\n', `[arex]\nshared_filesystem=no\nscratchdir=${SCRATCH}\n`),
  );
});

afterAll(() => {
  rmSync(SCRATCH, { recursive: true, force: true });
});

it(
  'a job whose session directory no node sees gets its files, and brings home what it made and how it ended',
  async () => {
    const scan = startScan(site);
    try {
      const script = [
        '#!/bin/bash',
        'mkdir sub && tr a-z A-Z < input.txt > "sub/with blank"',
        'cp sub/* result.txt',
        'pwd',
        'hostname >&2',
        'exit 7',
      ].join('\n');
      const job = createGridJob(site, jalienJob(script, { name: 'input.txt', text: 'data\n' }));
      expect((await job.submit()).exitCode).toBe(0);
      expect(await job.waitForEnd(JOB_MS - 10_000)).toEqual({ code: 7, text: 'Job exited with code 7' });
      expect(readFileSync(join(job.session, 'result.txt'), 'utf8')).toBe('DATA\n');
      expect(readFileSync(join(job.session, 'std.out'), 'utf8')).toBe(`${SCRATCH}/${job.id}\n`);
      expect(readFileSync(join(job.session, 'std.err'), 'utf8')).toMatch(/^vmbatch-/);
      expect(readFileSync(`${job.session}.diag`, 'utf8')).toMatch(/^exitcode=7$/m);
      expect(existsSync(join(job.session, '.vmbatch-submission'))).toBe(false);
      expect(readdirSync(SCRATCH)).toEqual([]);
    } finally {
      await stopScan(scan);
    }
  },
  JOB_MS,
);
