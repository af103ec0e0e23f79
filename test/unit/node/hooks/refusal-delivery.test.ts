// A refused plain job: what the prologue leaves, and what the epilogue makes of it, with the mom's file as a
// real mom wrote it.
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { deliverRefusal } from '../../../../src/node/hooks/refusal-delivery.ts';
import { leaveRefusal, leftRefusal } from '../../../../src/node/hooks/refusal-left.ts';
import type { Log } from '../../../../src/util/log.ts';

const RECORDED = readFileSync(
  new URL('../../../fixtures/torque/mom-job.refused.xml', import.meta.url),
  'utf8',
);
const WORDS = 'vmbatch: job fault (image-unknown): nosuch\nhint: another';

let directory: string;
let said: string[];
let hook: Parameters<typeof deliverRefusal>[0];

const at = (name: string) => join(directory, name);
const log = {
  write: (level: Parameters<Log['write']>[0], text: string) => void said.push(`${level} ${text}`),
  close: async () => {},
};

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-refusal-'));
  chmodSync(directory, 0o755);
  mkdirSync(at('mom_priv/jobs'), { recursive: true });
  mkdirSync(at('with blank'));
  said = [];
  const { username } = userInfo();
  hook = {
    ...{
      jobId: '193.vm',
      user: username,
      group: username,
      jobName: 'eblank',
      queue: 'vmalice',
      resources: '',
    },
    script: at('mom_priv/jobs/193.vm.SC'),
  };
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Where the job's error output goes. */
function goesTo(place: string, change = (text: string) => text): void {
  const text = RECORDED.replace('vm:/home/alice/with blank/x y', place);
  writeFileSync(at('mom_priv/jobs/193.vm.JB'), change(text), { mode: 0o600 });
}

async function deliver(): Promise<string[]> {
  await deliverRefusal(hook, WORDS, log);
  return said;
}

// The mom's files are root's.
describe.runIf(process.geteuid?.() === 0)('deliverRefusal', () => {
  it('makes the error file of the job, for its owner alone', async () => {
    goesTo(`${hostname()}:${at('with blank/x y')}`);
    expect(await deliver()).toEqual([
      `info the owner of this refused job reads why in ${at('with blank/x y')}`,
    ]);
    expect(readFileSync(at('with blank/x y'), 'utf8')).toBe(`${WORDS}\n`);
    expect(statSync(at('with blank/x y')).mode & 0o777).toBe(0o600);
  });

  it('gives it the mode that the job asked for', async () => {
    const umask = '<umask flags="3">18</umask></attributes>';
    goesTo(`${hostname()}:${at('x')}`, (text) => text.replace('</attributes>', umask));
    await deliver();
    expect(statSync(at('x')).mode & 0o777).toBe(0o644);
  });

  it('names a file in a directory as TORQUE does', async () => {
    goesTo(`${hostname()}:${at('with blank')}`);
    await deliver();
    expect(readFileSync(at('with blank/eblank.e193'), 'utf8')).toBe(`${WORDS}\n`);
  });

  it("follows the mom's $usecp lines, and says when there is none for a host", async () => {
    goesTo(`login.site.org:/home${at('x')}`);
    expect(await deliver()).toEqual([
      expect.stringMatching(/^warn .*login\.site\.org:\/home.* is on another host, and no \$usecp line/),
    ]);
    writeFileSync(at('mom_priv/config'), '$usecp *.site.org:/home/ /\n');
    await deliver();
    expect(readFileSync(at('x'), 'utf8')).toBe(`${WORDS}\n`);
  });

  it('says nothing twice to an owner who keeps the output in the home', async () => {
    writeFileSync(at('x'), `something\n${WORDS}\n`);
    goesTo(`${hostname()}:${at('x')}`);
    await deliver();
    expect(readFileSync(at('x'), 'utf8')).toBe(`something\n${WORDS}\n`);
  });

  it('never fails: the log says why nobody was told', async () => {
    const beginning = 'warn the owner of this refused job was not told why: ';
    expect(await deliver()).toEqual([
      `${beginning}${at('mom_priv/jobs/193.vm.JB')}, the mom's file of the job, does not say where its output goes`,
    ]);
    said = [];
    goesTo(`${hostname()}:${at('no/such')}`);
    expect(await deliver()).toEqual([`${beginning}${at('no/such')} cannot be written (ENOENT)`]);
    said = [];
    symlinkSync(at('other'), at('link'));
    goesTo(`${hostname()}:${at('link')}`);
    expect(await deliver()).toEqual([`${beginning}${at('link')} is a symbolic link`]);
    expect(existsSync(at('other'))).toBe(false);
    said = [];
    hook.user = 'vmbatch-nobody-has-this-name';
    expect((await deliver())[0]).toMatch(/^warn .*this node has no account "vmbatch-nobody-has-this-name"/);
  });

  it("believes nobody's file but root's", async () => {
    goesTo(`${hostname()}:${at('x')}`);
    chownSync(at('mom_priv/jobs/193.vm.JB'), 65534, 65534);
    expect((await deliver())[0]).toMatch(/^warn /);
    expect(existsSync(at('x'))).toBe(false);
  });
});

describe.runIf(process.geteuid?.() === 0)('what a prologue leaves to the epilogue', () => {
  it('is there for the epilogue, and for no one else to read', () => {
    leaveRefusal(at('state'), hook, WORDS);
    expect(leftRefusal(at('state'), hook.jobId)).toBe(WORDS);
    expect(statSync(at('state/jobs/193.vm')).isDirectory()).toBe(true);
    expect(statSync(at('state/jobs/193.vm/refusal')).mode & 0o777).toBe(0o600);
  });

  it('is nothing where no mom has asked, nor before', () => {
    for (const script of [at('mom_priv/jobs/job.sh'), at('193.vm.SC')])
      leaveRefusal(at('state'), { ...hook, script }, WORDS);
    expect(leftRefusal(at('state'), hook.jobId)).toBeUndefined();
    expect(existsSync(at('state'))).toBe(false);
  });
});
