// `vmbatch context build` and `vmbatch domain show`: as the built program, without privileges, with and
// without a node file.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pbsHeader } from '../../../../src/node/check/preview.ts';
import { readIso } from '../../context/iso-reader.ts';

const vmbatch = new URL('../../../../dist/vmbatch', import.meta.url).pathname;
let directory: string;
let script: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-preview-'));
  chmodSync(directory, 0o755);
  mkdirSync(join(directory, 'out'), { mode: 0o777 });
  chmodSync(join(directory, 'out'), 0o777);
  script = join(directory, 'job.sh');
  writeFileSync(
    script,
    '#!/bin/sh\n#PBS -q vmalice\n#PBS -l nodes=1:ppn=2,walltime=01:00:00\n#VMBATCH memory=512MiB scratch=1GiB\n',
  );
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** As an unprivileged user where we are root. */
function run(...args: string[]) {
  const isRoot = process.getuid?.() === 0;
  const identity = isRoot ? { uid: 65_534, gid: 65_534 } : {};
  return spawnSync(process.execPath, [vmbatch, ...args], { encoding: 'utf8', ...identity });
}
const noNode = () => ['--config', join(directory, 'absent.yaml')];

describe('vmbatch domain show', () => {
  it('prints the domain of the built-in demo configuration where there is no node file, and says so', async () => {
    const { status, stdout, stderr } = run('domain', 'show', '--script', script, ...noNode());
    expect(stderr).toMatch(/built-in demo configuration \(queue vmalice, image demo\)/);
    expect(status).toBe(0);
    await expect(stdout).toMatchFileSnapshot('../../../golden/node/preview-domain.xml');
  });

  it('goes by the node file', () => {
    const config = join(directory, 'node.yaml');
    writeFileSync(
      config,
      `queues: [vmalice]
state: ${directory}/state
hypervisor: { type: kvm, machine: q35 }
images: { demo: { path: /images/demo.qcow2 } }
share: { type: virtiofs, path: /shared }
network: { type: bridge, name: br7 }
disk: { scratch: { maximum: 1 GiB }, cache: 1 GiB }
`,
    );
    const { stdout, stderr, status } = run('domain', 'show', '--script', script, '--config', config);
    expect([status, stderr]).toEqual([0, expect.not.stringContaining('demo configuration')]);
    expect(stdout).toMatch(/<domain type="kvm">[\s\S]*machine="q35"[\s\S]*<source bridge="br7"\/>/);
    expect(stdout).toContain(`${directory}/state/cache/demo@5001-0.raw`);
    expect(stdout).toContain('<driver type="virtiofs"/>');
  });

  it.each([
    ['an image that there is not', '#VMBATCH image=other\n', 1, /image: found "other", allowed: demo/],
    [
      'more scratch than there may be',
      '#VMBATCH scratch=99TiB\n',
      1,
      /scratch: found 99 TiB, allowed: at most 20 GiB/,
    ],
  ])('fails as the job would for %s', (_what, text, code, message) => {
    writeFileSync(script, text);
    const { status, stderr } = run('domain', 'show', '--script', script, ...noNode());
    expect([status, stderr]).toEqual([code, expect.stringMatching(message)]);
  });
});

describe('vmbatch context build', () => {
  it('prints context.sh and user-data with words in place of keys, the same each time', async () => {
    const { status, stdout } = run('context', 'build', '--script', script, ...noNode());
    expect(status).toBe(0);
    expect(stdout).toBe(run('context', 'build', '--script', script, ...noNode()).stdout);
    expect(stdout).not.toContain('PRIVATE KEY');
    expect(stdout).toContain(
      `VMBATCH_HOST_KEY='${Buffer.from('PLACEHOLDER for the private host key\n').toString('base64')}'`,
    );
    expect(stdout).toMatch(/==> user-data <==\nMIME-Version/);
    expect(stdout).toContain('wall_limit_secs=3600');
    expect(stdout).toMatch(/allocated_cpu=2/);
  });

  it('writes an image that only its owner may read, the same bytes each time', () => {
    const out = join(directory, 'out/context.iso');
    const first = run('context', 'build', '--script', script, '--out', out, ...noNode());
    expect([first.status, first.stderr]).toEqual([
      0,
      expect.stringMatching(/wrote .*context\.iso: \d+ bytes/),
    ]);
    const bytes = readFileSync(out);
    expect(statSync(out).mode & 0o777).toBe(0o600);
    run('context', 'build', '--script', script, '--out', out, ...noNode());
    expect(readFileSync(out).equals(bytes)).toBe(true);
    const files = readIso(bytes, 'rock-ridge');
    const service = files.find(({ path }) => path === 'vmbatch/guest');
    expect(service?.data).toEqual(
      readFileSync(new URL('../../../../share/guest/vmbatch-guest', import.meta.url)),
    );
  });

  it('makes real keys if asked to', () => {
    const read = () =>
      JSON.parse(run('context', 'build', '--keys', '--json', '--script', script, ...noNode()).stdout);
    const key = (files: Record<string, string>) =>
      /^VMBATCH_HOST_KEY='(.*)'$/m.exec(files['context.sh'] ?? '')?.[1] ?? '';
    const [first, second] = [key(read()), key(read())];
    expect(Buffer.from(first, 'base64').toString()).toMatch(/^-----BEGIN OPENSSH PRIVATE KEY-----/);
    expect(first).not.toBe(second);
  });

  it.runIf(process.getuid?.() === 0)(
    "is for the script's owner, and for an account alice if that is root",
    () => {
      expect(run('context', 'build', '--script', script, ...noNode()).stdout).toContain(
        "VMBATCH_USER='alice'",
      );
      chownSync(script, 65_534, 65_534);
      expect(run('context', 'build', '--script', script, ...noNode()).stdout).toContain(
        "VMBATCH_USER='nobody'",
      );
    },
  );
});

describe('pbsHeader', () => {
  it('finds queue, slots and limit in any of the forms that qsub takes', () => {
    expect(pbsHeader('#PBS -q a -l nodes=2:ppn=4\n#PBS -l walltime=90\n')).toEqual({
      queue: 'a',
      slots: { here: 4, all: 8 },
      resources: 'nodes=2:ppn=4,walltime=90',
      wallSeconds: 90,
    });
    expect(pbsHeader('#PBS -lnodes=1:ppn=3,walltime=00:02:00 -qb\n')).toEqual({
      queue: 'b',
      slots: { here: 3, all: 3 },
      resources: 'nodes=1:ppn=3,walltime=00:02:00',
      wallSeconds: 120,
    });
    expect(pbsHeader('echo #PBS -q x\n')).toEqual({
      queue: undefined,
      slots: { here: 1, all: 1 },
      resources: '',
      wallSeconds: undefined,
    });
  });

  it.each([
    ['nodes=node7:ppn=4', { here: 4, all: 4 }],
    ['nodes=1:ppn=2+1:ppn=4', { here: 2, all: 6 }],
    ['nodes=1:big:ppn=2+node7:ppn=4', { here: 2, all: 6 }],
    ['nodes=3', { here: 1, all: 3 }],
    ['procs=4', { here: 4, all: 4 }],
    ['mem=2gb,procs=4,walltime=60', { here: 4, all: 4 }],
    ['procs=0', { here: 1, all: 1 }],
    ['ncpus=4', { here: 1, all: 1 }],
  ])('reads the slots of -l %s', (resources, slots) => {
    expect(pbsHeader(`#PBS -l ${resources}\n`).slots).toEqual(slots);
  });
});
