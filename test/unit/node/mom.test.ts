import {
  chmodSync,
  existsSync,
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
import { findMom, type MomClues } from '../../../src/node/mom.ts';
import { removeMomLines, wantedAlarm, writeMomLines } from '../../../src/node/mom-lines.ts';

interface Node {
  moms?: { words: string[]; cwd?: string; uid?: number }[];
  files?: Record<string, string>;
  directories?: string[];
}

const clues = ({ moms = [], files = {}, directories = [] }: Node): MomClues => ({
  processes: () => moms.map(({ words, uid = 0 }, pid) => ({ pid, uid, words })),
  cwd: (pid) => moms[pid]?.cwd,
  read: (path) => files[path],
  isDirectory: (path) => directories.includes(path),
});

describe("the mom's directory", () => {
  it.each<[string, Node, string, string?]>([
    [
      'that of the mom that runs, which works in it',
      { moms: [{ words: ['/usr/sbin/pbs_mom'], cwd: '/srv/t/mom_priv' }], directories: ['/srv/t/mom_priv'] },
      '/srv/t/mom_priv',
    ],
    [
      'the one that it was started for',
      { moms: [{ words: ['pbs_mom', '-p', '-d', '/home/pbs'] }], directories: ['/home/pbs/mom_priv'] },
      '/home/pbs/mom_priv',
    ],
    [
      'with the configuration that it was given',
      {
        moms: [{ words: ['pbs_mom', '-cother'], cwd: '/srv/t/mom_priv' }],
        directories: ['/srv/t/mom_priv'],
      },
      '/srv/t/mom_priv',
      '/srv/t/mom_priv/other',
    ],
    [
      'what a start file says',
      {
        files: { '/etc/sysconfig/pbs_mom': '#PBS_HOME=/none\nPBS_HOME="/data/torque"\n' },
        directories: ['/none/mom_priv', '/data/torque/mom_priv', '/var/spool/torque/mom_priv'],
      },
      '/data/torque/mom_priv',
    ],
    [
      'what a unit of systemd says',
      {
        files: {
          '/usr/lib/systemd/system/pbs_mom.service': 'ExecStart=/usr/sbin/pbs_mom -F -d /opt/pbs $PBS_ARGS\n',
        },
        directories: ['/opt/pbs/mom_priv'],
      },
      '/opt/pbs/mom_priv',
    ],
    ["a package's", { directories: ['/var/lib/torque/mom_priv'] }, '/var/lib/torque/mom_priv'],
  ])('is %s', (_what, node, directory, config = `${directory}/config`) => {
    expect(findMom(undefined, clues(node))).toEqual({ directory, config });
  });

  it.each<[string, Node, string | undefined, RegExp]>([
    ['none', {}, undefined, /no pbs_mom runs here, and there is no mom_priv in \/var\/spool\/torque/],
    ['a name that is none', {}, '/nowhere', /\/nowhere is no directory/],
    ['a directory of something else', { directories: ['/srv'] }, '/srv', /\/srv has no directory jobs/],
    [
      'two moms',
      {
        moms: [
          { words: ['pbs_mom'], cwd: '/a/mom_priv' },
          { words: ['pbs_mom'], cwd: '/b/mom_priv' },
        ],
        directories: ['/a/mom_priv', '/b/mom_priv'],
      },
      undefined,
      /several moms run here: \/a\/mom_priv, \/b\/mom_priv/,
    ],
    [
      "somebody's program of that name",
      { moms: [{ words: ['pbs_mom'], cwd: '/a/mom_priv', uid: 1000 }], directories: ['/a/mom_priv'] },
      undefined,
      /no pbs_mom runs here/,
    ],
  ])('is refused for %s', (_what, node, given, message) => {
    expect(() => findMom(given, clues(node))).toThrow(message);
  });
});

describe("our lines in the mom's configuration", () => {
  let folder: string;
  let file: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'vmbatch-mom-lines-'));
    mkdirSync(join(folder, 'mom_priv'));
    file = join(folder, 'mom_priv/config');
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));
  const wanted = { jobStarter: '/usr/local/libexec/starter', alarm: 300 };
  const text = () => readFileSync(file, 'utf8');

  it.each<[string, string | undefined]>([
    ['', ''],
    ['no file', undefined],
    ['lines of the site', '$pbsserver ce\n$usecp *:/home /home\n'],
    ['a last line without an end', '$pbsserver ce\n$prologalarm 20'],
    ['blank lines at its end', '$pbsserver ce\n\n\n'],
  ])('go in once and out again, and the rest stays byte for byte: %s', (_what, before) => {
    if (before !== undefined) writeFileSync(file, before);
    if (before !== undefined) chmodSync(file, 0o600);
    expect(writeMomLines(file, wanted)).toEqual([`$job_starter ${wanted.jobStarter}`, '$prologalarm 300']);
    const once = text();
    expect(once.startsWith(before ?? '')).toBe(true);
    expect(once).toMatch(/^\$job_starter \/usr\/local\/libexec\/starter\n\$prologalarm 300\n/m);
    writeMomLines(file, wanted);
    expect(text()).toBe(once);
    if (before !== undefined) expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(removeMomLines(file)).toBe(true);
    expect(existsSync(file) ? text() : undefined).toBe(before);
    expect(removeMomLines(file)).toBe(false);
  });

  it('follow a job starter that moves, and lines that the site adds stay', () => {
    writeFileSync(file, '$pbsserver ce\n');
    writeMomLines(file, wanted);
    writeFileSync(file, `${text()}$loglevel 3\n`);
    writeMomLines(file, { ...wanted, jobStarter: '/opt/starter' });
    expect(text().match(/job_starter/g)).toHaveLength(1);
    removeMomLines(file);
    expect(text()).toBe('$pbsserver ce\n$loglevel 3\n');
  });

  it('leave out what the site has already', () => {
    writeFileSync(file, `$job_starter ${wanted.jobStarter}\n$prologalarm 900\n`);
    expect(writeMomLines(file, wanted)).toEqual([]);
    expect(text()).toBe(`$job_starter ${wanted.jobStarter}\n$prologalarm 900\n`);
  });

  it("refuse to stand beside a site's own job starter, and to be longer than the mom reads", () => {
    writeFileSync(file, '\n$job_starter /site/starter\n');
    expect(() => writeMomLines(file, wanted)).toThrow(/config:2: \$job_starter is \/site\/starter already/);
    expect(text()).toBe('\n$job_starter /site/starter\n');
    writeFileSync(file, '');
    const jobStarter = `/${'x'.repeat(120)}`;
    expect(() => writeMomLines(file, { ...wanted, jobStarter })).toThrow(/the mom cannot read the line/);
  });

  it('give a prologue the time that a guest may take', () => {
    expect([280_000, 300_000, 600_000].map(wantedAlarm)).toEqual([300, 320, 620]);
  });
});
