// The files of the context disk, as one image that every reader accepts.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { contextFiles } from '../../../src/context/disk-files.ts';
import { buildIso } from '../../../src/context/iso9660.ts';
import { FULL_CONTEXT, SITE } from './context.ts';
import { withFiles } from './readers.ts';

const FILES = contextFiles(FULL_CONTEXT, SITE);
const OPTIONS = { volumeLabel: 'cidata', modified: new Date('2026-01-02T03:04:05Z') };
let directory: string;
let iso: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-disk-'));
  iso = join(directory, 'context.iso');
  writeFileSync(iso, buildIso(FILES, OPTIONS));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('contextFiles', () => {
  it('are what each reader looks for', () => {
    expect(FILES.map(({ path, mode }) => `${(mode ?? 0).toString(8)} ${path}`).sort()).toEqual(
      [
        '600 context.sh',
        '600 prolog.sh',
        '600 epilog.sh',
        '600 user-data',
        '600 meta-data',
        '600 network-config',
        '600 ec2/latest/user-data',
        '600 ec2/latest/meta-data.json',
        '600 openstack/latest/user_data',
        '600 openstack/latest/meta_data.json',
        '755 vmbatch/guest',
        '755 vmbatch/udhcpc-script',
        '755 vmbatch/site-prolog',
        '755 vmbatch/site-epilog',
        '755 vmbatch/before-job',
        '755 vmbatch/after-job',
      ].sort(),
    );
  });

  it('hold the same user-data wherever a reader looks', () => {
    const read = (name: string) => String(FILES.find(({ path }) => path === name)?.data);
    const encoded = /^EC2_USER_DATA='([A-Za-z0-9+/=]+)'$/m.exec(read('context.sh'))?.[1] ?? '';
    for (const name of ['ec2/latest/user-data', 'openstack/latest/user_data'])
      expect(read(name)).toBe(read('user-data'));
    expect(Buffer.from(encoded, 'base64').toString()).toBe(read('user-data'));
  });

  it('give equal images for equal input, whatever the order', () => {
    expect(buildIso([...FILES].reverse(), OPTIONS).equals(readFileSync(iso))).toBe(true);
  });

  it('have the label and the type by which readers find the disk', () => {
    const { stdout } = spawnSync('blkid', ['-p', '-o', 'export', iso], { encoding: 'utf8' });
    expect(stdout).toMatch(/^LABEL=cidata$/m);
    expect(stdout).toMatch(/^TYPE=iso9660$/m);
  });

  it.each(['-R', '-J'])('are byte-identical for isoinfo %s', (names) => {
    for (const { path, data } of FILES) {
      const { stdout } = spawnSync('isoinfo', [names, '-i', iso, '-x', `/${path}`]);
      expect([path, stdout.equals(Buffer.from(data))]).toEqual([path, true]);
    }
  });

  it.each([
    ['Rock Ridge', 'any'],
    ['Joliet', 'norock'],
  ])('are byte-identical for xorriso by %s', (_names, mode) => {
    const out = join(directory, mode);
    const options = ['-read_fs', mode];
    const { status, stderr } = spawnSync(
      'xorriso',
      [...options, '-osirrox', 'on', '-indev', iso, '-extract', '/', out],
      { encoding: 'utf8' },
    );
    expect([status, status === 0 ? '' : stderr]).toEqual([0, '']);
    for (const { path, data } of FILES)
      expect([path, readFileSync(join(out, path)).equals(Buffer.from(data))]).toEqual([path, true]);
  });
});

describe("CernVM's start-up scripts", () => {
  /** As they do it: the variables of context.sh, then the script sourced in the directory of the context. */
  const source = (phase: string, word: string) =>
    withFiles(FILES, (context) => {
      const program = `cd "$1"; . ./context.sh; (. "./$2.sh" "$3"); echo "result $?"; sleep 0.3; cat started 2>/dev/null; true`;
      const { stdout } = spawnSync('bash', ['-c', program, 'bash', context, phase, word], {
        encoding: 'utf8',
      });
      return stdout.replaceAll(context, 'CONTEXT');
    });

  it("run the site's prolog, and go on although it exits", () => {
    expect(source('prolog', 'start')).toBe('site prolog start\nresult 0\n');
  });

  it("run the site's epilog and then start the guest service with the context at hand", () => {
    expect(source('epilog', 'start')).toBe('site epilog start\nresult 0\nservice in CONTEXT\n');
  });

  it('start nothing when the machine goes down', () => {
    expect(source('epilog', 'stop')).toBe('site epilog stop\nresult 0\n');
    expect(existsSync('started')).toBe(false);
  });
});
