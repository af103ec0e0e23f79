// Kinds of jobs beside the plain one: arrays, several slots, interactive ones, jobs on several nodes where
// guests cannot meet. On fake guests.
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { audit } from '../site/audit.ts';
import { runSheltered } from '../site/sheltered.ts';
import { QUEUE, type Site } from '../site/site.ts';
import { readIfThere } from '../support/files.ts';
import { useFakeSite } from './fake-site.ts';

const JOB_MS = 60_000;
const NOTHING = { domains: 0, disks: 0, isos: 0, leases: 0, locks: 0, keys: 0, processes: 0 };

const theSite = useFakeSite('kinds');
let site: Site;

beforeAll(() => {
  site = theSite();
});

async function submit(script: string, ...options: string[]): Promise<string> {
  const path = join(site.account.home, 'job.sh');
  writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const result = await site.asUser(join(site.standin.binDir, 'qsub'), [
    '-q',
    QUEUE,
    '-j',
    'oe',
    ...options,
    path,
  ]);
  expect(result).toMatchObject({ exitCode: 0, stderr: '' });
  return result.stdout.trim();
}

/** The output of a job when it has ended. */
async function outputOf(id: string): Promise<string> {
  for (const deadline = performance.now() + JOB_MS - 10_000; performance.now() < deadline; await sleep(50)) {
    const { stdout } = await site.asUser(join(site.standin.binDir, 'qstat'), ['-f', '-1', id]);
    if (!/^ *job_state = C$/m.test(stdout)) continue;
    const number = id.replace(/^(\d+)(?:\[(\d+)\])?\..*$/, (_, first, index) =>
      index ? `${first}-${index}` : first,
    );
    return readIfThere(join(site.account.home, `job.sh.o${number}`));
  }
  throw new Error(`waited in vain for the end of ${id}`);
}

describe('kinds of jobs', () => {
  it(
    'each job of an array has a guest of its own, two at once on two slots',
    async () => {
      const id = await submit('echo "$PBS_ARRAYID $(hostname)"', '-t', '0-2');
      const ids = [0, 1, 2].map((index) => id.replace('[]', `[${index}]`));
      const lines = (await Promise.all(ids.map(outputOf))).map((text) => text.trim().split(' '));
      expect(lines.map(([index]) => index)).toEqual(['0', '1', '2']);
      expect(new Set(lines.map(([, host]) => host)).size).toBe(3);
      expect(await audit(site)).toEqual(NOTHING);
    },
    JOB_MS,
  );

  it(
    'a job with two slots gets a guest with two processors',
    async () => {
      const id = await submit('cat "$PBS_NODEFILE" | wc -l', '-l', 'nodes=1:ppn=2');
      expect((await outputOf(id)).trim()).toBe('2');
      const history = readFileSync(join(site.log, 'vmbatch.log'), 'utf8');
      expect(history).toMatch(new RegExp(`${id.replaceAll('.', '\\.')} starting a guest .*vcpus=2`));
    },
    JOB_MS,
  );

  it('an interactive job, of which the mom has no script, is refused for good with a clear word', async () => {
    const words = [
      '77.test',
      site.account.name,
      site.account.name,
      'STDIN',
      'nodes=1',
      QUEUE,
      '',
      '/nonexistent/77.SC',
    ];
    const result = await runSheltered(join(site.standin.momPrivDir, 'prologue'), words, {
      cwd: site.standin.momPrivDir,
    });
    expect(result.exitCode).toBe(1);
    expect(result.stderr).toContain('interactive jobs (qsub -I) cannot run in a guest');
    expect(await audit(site)).toEqual(NOTHING);
  });

  it('a job on several nodes is refused for good where guests have networks of their own', async () => {
    const nodeFile = join(site.directory, 'nodes');
    writeFileSync(nodeFile, 'wn1\nwn2\n');
    const script = join(site.directory, '78.SC');
    writeFileSync(script, '#!/bin/sh\n', { mode: 0o700 });
    await runSheltered('chown', [site.account.name, script]);
    const words = ['78.test', site.account.name, site.account.name, 'job', 'nodes=2', QUEUE, '', script];
    // What TORQUE says of nodes=wn1+wn2.
    const env = { ...process.env, PBS_NODEFILE: nodeFile, PBS_NUM_NODES: '0' };
    const result = await runSheltered(join(site.standin.momPrivDir, 'prologue'), words, {
      cwd: site.standin.momPrivDir,
      env,
    });
    expect([result.exitCode, result.stderr]).toEqual([
      1,
      expect.stringContaining('could not reach each other'),
    ]);
    expect(await audit(site)).toEqual(NOTHING);
  });

  const REFUSED = '#VMBATCH image=nosuch\ntrue';
  const WHY = /^vmbatch: .*:2: image: found "nosuch", allowed: .+ \[image-unknown\]$/m;

  it.each([
    ['where its output goes', ['-N', 'plain', '-j', 'n'], 'plain.eSEQ', 0o600],
    ['where both of its streams go', ['-N', 'joined'], 'joined.oSEQ', 0o600],
    [
      'in a file of its own, with the mode that it asked for',
      ['-j', 'n', '-e', 'why', '-W', 'umask=022'],
      'why',
      0o644,
    ],
    // TORQUE has it there already.
    ['in the home, once', ['-N', 'kept', '-j', 'n', '-k', 'oe'], 'kept.eSEQ', 0o600],
    ['each of an array', ['-N', 'array', '-j', 'n', '-t', '4'], 'array.eSEQ-4', 0o600],
  ])(
    'the owner of a plain job that is refused reads why %s',
    async (_, options, file, mode) => {
      const id = await submit(REFUSED, ...options);
      await outputOf(id.replace('[]', '[4]'));
      const path = join(site.account.home, file.replace('SEQ', /^\d+/.exec(id)?.[0] ?? ''));
      const text = readIfThere(path);
      expect(text).toMatch(WHY);
      expect(text.match(/image-unknown/g)).toHaveLength(1);
      expect(statSync(path)).toMatchObject({ uid: site.account.uid, mode: 0o100_000 | mode });
      expect(readdirSync(join(site.state, 'jobs'))).toEqual([]);
      expect(await audit(site)).toEqual(NOTHING);
    },
    JOB_MS,
  );

  it(
    'so does the owner of one that asks for a guest in a queue without guests',
    async () => {
      const qmgr = join(site.standin.binDir, 'qmgr');
      for (const directive of [
        'create queue other queue_type = execution',
        'set queue other enabled = True',
        'set queue other started = True',
      ])
        expect(await runSheltered(qmgr, ['-c', directive], { env: site.env })).toMatchObject({ stderr: '' });
      const id = await submit(REFUSED, '-q', 'other', '-N', 'other');
      await outputOf(id);
      const path = join(site.account.home, `other.o${/^\d+/.exec(id)?.[0]}`);
      expect(readIfThere(path)).toMatch(/queue-not-served/);
    },
    JOB_MS,
  );
});
