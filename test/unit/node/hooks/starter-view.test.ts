import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readMomConfig } from '../../../../src/batch/torque/mom/mom-config.ts';
import { mustStartJobs, refusedTo, viewStarter } from '../../../../src/node/hooks/job-starter.ts';
import { SHIM_MARK } from '../../../../src/node/hooks/shim.ts';
import { noteInstalled } from '../../../../src/node/installed.ts';
import { run } from '../../../../src/util/processes/run.ts';

let folder: string;
let config: string;
let starter: string;
let state: string;
const at = (name: string) => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vmbatch-starter-'));
  chmodSync(folder, 0o755);
  for (const name of ['state', 'dist', 'dist/lib']) mkdirSync(at(name), { mode: 0o755 });
  [config, starter, state] = [at('config'), at('job-starter'), at('state')];
  for (const name of ['node', 'dist/vmbatch', 'dist/lib/run.cjs'])
    writeFileSync(at(name), '', { mode: name === 'node' ? 0o755 : 0o644 });
  writeStarter({});
  writeFileSync(config, `$pbsserver ce\n$job_starter ${starter}\n`);
  noteInstalled(state, { jobStarter: starter });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function writeStarter(values: Record<string, string>, file = starter): void {
  const lines = { node: at('node'), vmbatch: at('dist/vmbatch'), state, ...values };
  const text = Object.entries(lines).map(([name, value]) => `${name}='${value}'\n`);
  writeFileSync(file, `#!/bin/sh\n# ${SHIM_MARK}\n${text.join('')}`);
  chmodSync(file, 0o755);
}

const look = () => viewStarter(readMomConfig(config), state);
const flaws = () => look().flaws.map(({ code, found, advice }) => `${code}: ${found} -> ${advice}`);
const NOBODY = { name: 'nobody', uid: 65534, gid: 65534, groups: [] };

describe.runIf(process.geteuid?.() === 0)('the job starter of the mom', () => {
  it('is fine as it was installed', async () => {
    expect(flaws()).toEqual([]);
    expect(look().path).toBe(starter);
    expect(await refusedTo(NOBODY, look(), run)).toBeUndefined();
    await mustStartJobs(NOBODY, { mom: readMomConfig(config), state, run });
  });

  it.each<[string, () => unknown, RegExp]>([
    [
      'there is no line for it',
      () => writeFileSync(config, '$prologalarm 300\n#$job_starter x\n'),
      /starter-unset: .*config has no \$job_starter.*-> add the line "\$job_starter \/.*\/job-starter" to/,
    ],
    ['there is no configuration', () => rmSync(config), /config has no \$job_starter/],
    [
      'the mom does not read its configuration',
      () => chmodSync(config, 0o666),
      /mom-config-refused: .*others than root may write/,
    ],
    [
      'it is gone',
      () => rmSync(starter),
      /starter-broken: .*config:2: .*is not there: the mom ignores the line/,
    ],
    ['it is not executable', () => chmodSync(starter, 0o644), /is not executable: the mom ignores the line/],
    [
      'its path is longer than a line may be',
      () => writeFileSync(config, `$job_starter /${'x'.repeat(200)}\n`),
      /the mom reads 118 characters of a line/,
    ],
    [
      'the line names something else',
      () => writeFileSync(config, '$job_starter /bin/true\n'),
      /starter-unset: .*config:1: \$job_starter is \/bin\/true, not the one of vmbatch/,
    ],
    [
      'a later line takes its place',
      () => writeFileSync(config, `$job_starter ${starter}\n$job_starter /bin/true\n`),
      /config:2: \$job_starter is \/bin\/true, which takes the place of line 1/,
    ],
    [
      'the mom runs it as root',
      () => writeFileSync(config, `$job_starter ${starter}\n$job_starter_run_privileged yes\n`),
      /starter-privileged: .*would run as root/,
    ],
    [
      'it is of another installation',
      () => writeStarter({ state: '/elsewhere' }),
      /starter-broken: .*was installed for state: \/elsewhere, the hooks for/,
    ],
    [
      'its Node is gone',
      () => writeStarter({ node: '/usr/lib/none/node' }),
      /node=\/usr\/lib\/none\/node is not there/,
    ],
    [
      'its vmbatch is gone',
      () => rmSync(at('dist'), { recursive: true }),
      /vmbatch=.*dist\/vmbatch is not there/,
    ],
    ['others may write to it', () => chmodSync(starter, 0o757), /can be changed by others than root/],
    ['it belongs to a user', () => chownSync(starter, 65534, 65534), /can be changed by others than root/],
  ])('is refused when %s', async (_what, plant, expected) => {
    plant();
    const found = flaws();
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(expected);
    await expect(mustStartJobs(NOBODY, { mom: readMomConfig(config), state, run })).rejects.toThrow(
      /jobs would not run in their guests here/,
    );
  });

  it('may be called by one of the site, or stand before a line that the mom cannot use', () => {
    writeFileSync(at('site'), `#!/bin/sh\n[ "$PBS_QUEUE" = x ] || exec ${starter} "$@"\n`, { mode: 0o755 });
    writeFileSync(config, `$job_starter ${at('site')}\n`);
    expect(flaws()).toEqual([]);
    expect(look().path).toBe(starter);
    writeFileSync(config, `$job_starter ${starter}\n$job_starter /none\n`);
    expect(flaws()).toEqual([]);
  });

  it.each<[string, string, number, RegExp]>([
    ['enter the program', 'dist', 0o750, /nobody cannot read .*: .*\/dist is closed/],
    ['enter its chunks', 'dist/lib', 0o700, /cannot read .*run\.cjs: .*\/dist\/lib is closed/],
    ['read a chunk', 'dist/lib/run.cjs', 0o640, /cannot read .*run\.cjs$/],
    ['execute Node', 'node', 0o744, /cannot execute .*\/node/],
    ['read the starter', 'job-starter', 0o711, /cannot read .*job-starter/],
    ['enter the state directory', 'state', 0o700, /cannot enter .*\/state/],
  ])('is refused where the user of the job cannot %s', async (_what, name, mode, expected) => {
    chmodSync(at(name), mode);
    const refused = await refusedTo(NOBODY, look(), run);
    expect(refused?.found).toMatch(expected);
    expect(refused?.advice).toContain('chmod a+r');
    const member = { ...NOBODY, name: 'alice', groups: [{ name: 'grid', gid: 4711 }] };
    chownSync(at(name), 0, 4711);
    chmodSync(at(name), mode | 0o070);
    expect(await refusedTo(member, look(), run)).toBeUndefined();
  });
});
