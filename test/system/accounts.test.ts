// Jobs of accounts that nobody may log in with, and accounts that change while guests run. On fake guests,
// which have the guest service and an SSH server of their own.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createGridJob, jalienJob, startScan, stopScan } from '../site/grid-job.ts';
import { runSheltered } from '../site/sheltered.ts';
import { QUEUE, type Site } from '../site/site.ts';
import { useFakeSite } from './fake-site.ts';

const JOB_MS = 60_000;

const theSite = useFakeSite('accounts');
let site: Site;

beforeAll(() => {
  site = theSite();
});

afterEach(() => setShell('/bin/bash'));

/** Replaces /etc/passwd, as everything does that changes an account. */
async function setShell(shell: string): Promise<void> {
  const result = await runSheltered('usermod', ['--shell', shell, site.account.name]);
  expect(result).toMatchObject({ exitCode: 0 });
}

/** Submits with plain qsub; returns the id and the path of the output. */
async function submit(name: string, script: string): Promise<{ id: string; stdout: string }> {
  const path = join(site.account.home, name);
  writeFileSync(path, script, { mode: 0o755 });
  const stdout = `${path}.out`;
  const options = ['-q', QUEUE, '-j', 'oe', '-o', stdout];
  const result = await site.asUser(join(site.standin.binDir, 'qsub'), [...options, path]);
  expect(result).toMatchObject({ exitCode: 0, stderr: '' });
  return { id: result.stdout.trim(), stdout };
}

async function exitStatus(id: string): Promise<number> {
  for (const deadline = performance.now() + JOB_MS - 10_000; performance.now() < deadline; await sleep(50)) {
    const { stdout } = await site.asUser(join(site.standin.binDir, 'qstat'), ['-f', '-1', id]);
    const status = /^ *exit_status = (-?\d+)$/m.exec(stdout)?.[1];
    if (status !== undefined && /^ *job_state = C$/m.test(stdout)) return Number(status);
  }
  throw new Error(`waited in vain for the end of ${id}`);
}

describe.each(['/usr/sbin/nologin', '/bin/false'])('an account whose shell is %s', (shell) => {
  it(
    'has its job run by the bash of the guest',
    async () => {
      await setShell(shell);
      const job = await submit('job.sh', '#!/bin/sh\necho "$SHELL"; id -un; exit 3\n');
      expect([await exitStatus(job.id), readFileSync(job.stdout, 'utf8')]).toEqual([
        3,
        `/bin/bash\n${site.account.name}\n`,
      ]);
    },
    JOB_MS,
  );
});

describe('a grid job of an account whose shell is /usr/sbin/nologin', () => {
  it(
    'runs to its end as any other',
    async () => {
      await setShell('/usr/sbin/nologin');
      const scan = startScan(site);
      try {
        const input = { name: 'input.txt', text: 'data\n' };
        const job = createGridJob(site, jalienJob('#!/bin/bash\ncp input.txt result.txt\n', input));
        expect((await job.submit()).exitCode).toBe(0);
        expect(await job.waitForEnd(JOB_MS - 10_000)).toMatchObject({ code: 0 });
        expect(readFileSync(join(job.session, 'result.txt'), 'utf8')).toBe('data\n');
      } finally {
        await stopScan(scan);
      }
    },
    JOB_MS,
  );
});

describe('a fake guest', () => {
  it(
    'keeps its own accounts when those of the node change',
    async () => {
      const own = `grep "^$USER:" /etc/passwd | cut -d: -f6`;
      const { home } = site.account;
      const job = await submit(
        'wait.sh',
        `#!/bin/sh\n${own}\ntouch ${home}/up\nuntil [ -e ${home}/go ]; do sleep 0.1; done\n${own}\n`,
      );
      while (!existsSync(join(home, 'up'))) await sleep(50);
      await setShell('/bin/dash');
      writeFileSync(join(home, 'go'), '');
      expect(await exitStatus(job.id)).toBe(0);
      const login = `/mnt/login/${site.account.name}\n`;
      expect(readFileSync(job.stdout, 'utf8')).toBe(login + login);
    },
    JOB_MS,
  );
});
