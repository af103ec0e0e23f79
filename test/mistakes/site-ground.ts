// A site with a CE, a stand-in for TORQUE and fake guests: what the owner of a grid job reads, and what
// stands in logs after it.
import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { writePublic } from '../site/configuration.ts';
import { createGridJob, type GridJob, jalienJob, startScan, stopScan } from '../site/grid-job.ts';
import { runSheltered } from '../site/sheltered.ts';
import type { Site } from '../site/site.ts';
import { useFakeSite } from '../system/fake-site.ts';
import type { Sight } from './table.ts';

const END_MS = 45_000;

export interface SiteGround {
  site: Site;
  /** Changes TORQUE; one directive of qmgr. */
  qmgr(directive: string): Promise<void>;
  /** Replaces text in arc.conf until what is returned is called. */
  arcConf(from: string | RegExp, to: string): () => void;
}

/** Starts the site before the tests of a file, with a scan, and stops both after them.
 * @param name of its directory; another for each file */
export function useSite(name: string): () => SiteGround {
  const theSite = useFakeSite(`mistakes-${name}`);
  let scan: ChildProcess | undefined;
  beforeAll(() => {
    scan = startScan(theSite());
  });
  beforeEach(() => {
    theSite().configureNode({});
    rmSync(join(theSite().log, 'vmbatch.log'), { force: true });
  });
  afterAll(async () => {
    if (scan !== undefined) await stopScan(scan);
  });
  return () => {
    const site = theSite();
    return {
      site,
      qmgr: async (directive) => {
        const program = join(site.standin.binDir, 'qmgr');
        const { stderr } = await runSheltered(program, ['-c', directive], { env: site.env });
        expect(stderr).toBe('');
      },
      arcConf: (from, to) => {
        const text = readFileSync(site.arcConf, 'utf8');
        const edited = text.replace(from, to);
        if (edited === text) throw new Error(`arc.conf has no ${from}`);
        writePublic(site.arcConf, edited);
        return () => writePublic(site.arcConf, text);
      },
    };
  };
}

/** What the owner of a grid job reads as the reason why it failed; the exit code is A-REX's.
 * @param change of the job's files, before it is submitted */
export function endOfAGridJob(change: (job: GridJob) => void = () => undefined) {
  return async ({ site }: SiteGround): Promise<Sight> => {
    const job = createGridJob(site, jalienJob('#!/bin/bash\ntrue\n', { name: 'in', text: '' }));
    change(job);
    const { exitCode, stderr, localId } = await job.submit();
    if (localId === undefined) return { where: 'errors of the job', text: stderr, exit: exitCode };
    const { code, text } = await job.waitForEnd(END_MS);
    return { where: 'lrms_done', text, exit: code };
  };
}

/** The first line of vmbatch.log that tells of something wrong, after a grid job; the exit code is
 * A-REX's. */
export async function logAfterAGridJob(ground: SiteGround): Promise<Sight> {
  const { exit } = await endOfAGridJob()(ground);
  const log = join(ground.site.log, 'vmbatch.log');
  const lines = existsSync(log) ? readFileSync(log, 'utf8').split('\n') : [];
  const text = lines.find((line) => /^\S+ (error|warn) /.test(line));
  return text === undefined ? { where: 'in no log', text: '', exit } : { where: 'vmbatch.log', text, exit };
}
