// A CE that changes from `lrms = pbs` to `lrms = vmbatch` while jobs run: our scan reports what ARC's own
// backend submitted.
import { chownSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { createGridJob, jalienJob, startScan, stopScan } from '../site/grid-job.ts';
import type { Site } from '../site/site.ts';
import { useFakeSite } from './fake-site.ts';

const JOB_MS = 60_000;

const theSite = useFakeSite('migration');
let site: Site;

beforeAll(() => {
  site = theSite();
});

it(
  'a job that submit-pbs-job submitted is reported with its own exit code by the scan of vmbatch',
  async () => {
    const configuration = join(site.directory, 'pbs.conf');
    writeFileSync(
      configuration,
      readFileSync(site.arcConf, 'utf8')
        .replace(/^lrms=.*$/m, 'lrms=pbs plain')
        .replace(/^\[custom:vmbatch\][^[]*/m, ''),
      { mode: 0o644 },
    );
    const job = createGridJob(
      site,
      jalienJob('#!/bin/bash\ncp input.txt result.txt\nexit 5\n', { name: 'input.txt', text: 'data\n' }),
    );
    const grami = readFileSync(job.file('grami'), 'latin1');
    writeFileSync(
      job.file('grami'),
      grami.replace(/^joboption_queue=.*$/m, "joboption_queue='plain'"),
      'latin1',
    );
    const submitted = await site.asUser(
      '/usr/share/arc/submit-pbs-job',
      ['--config', configuration, job.file('grami')],
      {
        cwd: site.directory,
      },
    );
    expect(submitted.exitCode, submitted.stderr).toBe(0);
    const localId = /^joboption_jobid=(.*)$/m.exec(readFileSync(job.file('grami'), 'latin1'))?.[1];
    // As A-REX goes on.
    writeFileSync(job.file('local'), `localid=${localId}\n`, { flag: 'a' });
    const status = join(site.control, 'processing', `job.${job.id}.status`);
    writeFileSync(status, 'INLRMS');
    chownSync(status, site.account.uid, site.account.gid);
    const scan = startScan(site);
    try {
      expect(await job.waitForEnd(JOB_MS - 10_000)).toEqual({ code: 5, text: 'Job exited with code 5' });
      expect(readFileSync(join(job.session, 'result.txt'), 'utf8')).toBe('data\n');
      expect(readFileSync(`${job.session}.diag`, 'utf8')).toMatch(/^LRMSExitcode=5$/m);
    } finally {
      await stopScan(scan);
    }
  },
  JOB_MS,
);
