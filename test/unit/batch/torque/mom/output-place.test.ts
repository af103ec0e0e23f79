import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseMomConfig } from '../../../../../src/batch/torque/mom/mom-config.ts';
import { type MomJob, parseMomJob } from '../../../../../src/batch/torque/mom/mom-job-file.ts';
import { errorPlace } from '../../../../../src/batch/torque/mom/output-place.ts';
import type { StartMessage } from '../../../../standin/common/protocol.ts';
import { jobFile } from '../../../../standin/mom/job-file.ts';

/** Written by a real mom of TORQUE 6.1 for a job with `-v 'B="<Error_Path>zz</Error_Path>"'`. */
const RECORDED = readFileSync(
  new URL('../../../../fixtures/torque/mom-job.refused.xml', import.meta.url),
  'utf8',
);

const job = (changes: Partial<MomJob> = {}): MomJob => ({
  name: 'plain',
  errorPath: 'wn1:/home/alice/plain.e7',
  outputPath: 'wn1:/home/alice/plain.o7',
  join: 'n',
  keep: 'n',
  umask: 0o077,
  variables: new Map([['WHERE', '/data/alice']]),
  isInteractive: false,
  ...changes,
});

function place(changes: Partial<MomJob> = {}, { usecp = '', jobId = '7.vm', hosts = ['wn1.site.org'] } = {}) {
  const settings = parseMomConfig(usecp);
  return errorPlace(job(changes), {
    jobId,
    owner: { name: 'alice', home: '/home/alice' },
    queue: 'vmalice',
    hostNames: hosts,
    config: { file: 'config', exists: true, settings, problem: undefined },
  });
}

const pathOf = (...given: Parameters<typeof place>) => {
  const found = place(...given);
  return found.is === 'file' ? found.path : found.is;
};

describe("the mom's file of a job", () => {
  it('is read as a real mom writes it, whatever stands in its variables', () => {
    expect(parseMomJob(RECORDED)).toMatchObject({
      name: 'eblank',
      errorPath: 'vm:/home/alice/with blank/x y',
      outputPath: 'vm:/home/alice/eblank.o193',
      join: 'n',
      keep: 'n',
      umask: 0o077,
      isInteractive: false,
    });
    expect(parseMomJob(RECORDED)?.variables.get('PBS_O_WORKDIR')).toBe('/home/alice');
  });

  it('is read where the rest of it is broken, and is none without a name', () => {
    const start = RECORDED.indexOf('<job_state');
    const end = RECORDED.indexOf('<Error_Path');
    const broken = `${RECORDED.slice(0, start)}<a.1><&\x01${RECORDED.slice(end)}`;
    expect(parseMomJob(broken)?.errorPath).toBe('vm:/home/alice/with blank/x y');
    for (const text of ['', '{"message": 1}', '<job><attributes></attributes></job>', '\0\0'])
      expect(parseMomJob(text)).toBeUndefined();
  });

  it('has the umask as a number to base ten', () => {
    const withUmask = RECORDED.replace('</attributes>', '<umask flags="3">18</umask></attributes>');
    expect(parseMomJob(withUmask)?.umask).toBe(0o022);
  });

  it('is the same from the stand-in', () => {
    const message = {
      ...{ id: '187[2].vm', name: 'ärr-2', user: 'alice', group: 'alice', uid: 1, gid: 1, queue: 'vmalice' },
      ...{ nodeFile: ['wn1'], join: 'oe', keep: 'e', umask: 0o022, variables: [['A', 'x&<y>']] },
      ...{ outputPath: 'vm:/o ü', errorPath: 'vm:/e' },
    };
    const text = jobFile(message as unknown as StartMessage, 'wn1', 0);
    expect(text).toContain('<fileprefix>187-2.vm</fileprefix>');
    expect(parseMomJob(text)).toEqual({
      ...{ name: 'ärr-2', outputPath: 'vm:/o ü', errorPath: 'wn1:/e', join: 'oe', keep: 'e', umask: 0o022 },
      ...{ variables: new Map([['A', 'x&<y>']]), isInteractive: false },
    });
  });
});

describe('errorPlace', () => {
  it.each([
    ['a short name of this node', 'wn1:/home/alice/plain.e7'],
    ['its full name', 'wn1.site.org:/home/alice/plain.e7'],
    ['localhost', 'localhost.localdomain:/home/alice/plain.e7'],
    ['no host', '/home/alice/plain.e7'],
    ['a path in the home', 'wn1:plain.e7'],
    ['a variable of the system', 'wn1:$HOME/$PBS_JOBNAME.e7'],
  ])('knows %s', (_, errorPath) => {
    expect(pathOf({ errorPath })).toBe('/home/alice/plain.e7');
  });

  it.each([
    ['*:/ /', '/home/alice/x'],
    ['*.site.org:/home /nfs/home', '/nfs/home/alice/x'],
    ['login.site.org:/home/ /nfs/', '/nfs/alice/x'],
    ['*:/data /data\n$usecp *:/home /h2', '/h2/alice/x'],
    // What TORQUE does not take for a match either.
    ['*login.site.org:/ /', 'unreachable'],
    ['login:/ /', 'unreachable'],
    ['login.*:/ /', 'unreachable'],
    ['*:/data /data', 'unreachable'],
    ['login.site.org', 'unreachable'],
    ['login.site.org:/home', 'unreachable'],
  ])('maps other hosts by $usecp %s', (usecp, path) => {
    const errorPath = 'login.site.org:/home/alice/x';
    expect(pathOf({ errorPath }, { usecp: `$usecp ${usecp}\n` })).toBe(path);
  });

  it('names the other host where there is no way to it', () => {
    expect(place({ errorPath: 'login:/x' })).toEqual({
      is: 'unreachable',
      why: 'login:/x is on another host, and no $usecp line of the mom names it',
    });
    expect(pathOf({ errorPath: 'wn11:/x' })).toBe('unreachable');
    expect(pathOf({ errorPath: ':/x' })).toBe('unreachable');
    expect(pathOf({ errorPath: undefined })).toBe('unreachable');
  });

  it.each([
    ['oe', 'n', '/home/alice/plain.o7'],
    ['eo', 'n', '/home/alice/plain.e7'],
    ['n', 'o', '/home/alice/plain.e7'],
    ['n', 'e', '/home/alice/kept.e7'],
    ['n', 'oe', '/home/alice/kept.e7'],
    ['oe', 'oe', '/home/alice/kept.o7'],
    // The output is not kept, and the error file is the output.
    ['oe', 'e', '/home/alice/plain.o7'],
  ])('joined %s and kept %s it is %s', (join, keep, path) => {
    expect(pathOf({ name: 'kept', join, keep })).toBe(path);
  });

  it('names files in a directory as the server does, of arrays with their index', () => {
    expect(pathOf({ errorPath: 'wn1:/data/' })).toBe('/data/plain.e7');
    expect(place({ errorPath: 'wn1:/data' })).toMatchObject({ path: '/data', inDirectory: 'plain.e7' });
    const array = { jobId: '187[2].vm' };
    expect(pathOf({ name: 'arr-2', errorPath: 'wn1:/data/' }, array)).toBe('/data/arr.e187-2');
    expect(pathOf({ name: 'arr-2', keep: 'e' }, array)).toBe('/home/alice/arr-2.e187');
  });

  it.each([
    ['@WHERE/x', '/data/alice/x'],
    ['@{WHERE}/@PBS_JOBID', '/data/alice/7.vm'],
    ['/with blank/x', '/with blank/x'],
    ['/x@NOSUCH', 'unreachable'],
    ['/x@', 'unreachable'],
    ['/x@(id)', 'unreachable'],
    ['/`id`', 'unreachable'],
    ['/a&b<c>', 'unreachable'],
    ['~/x', 'unreachable'],
    ["/it's", 'unreachable'],
    ['/two\nlines', 'unreachable'],
    ['@WHERE@{X}', 'unreachable'],
  ])('makes of %j what TORQUE does without a shell: %s (@ is a dollar sign)', (path, expected) => {
    expect(pathOf({ errorPath: `wn1:${path.replaceAll('@', '$')}` })).toBe(expected);
  });

  it('splits no value of a variable into two paths', () => {
    expect(pathOf({ errorPath: 'wn1:/$A', variables: new Map([['A', 'b c']]) })).toBe('unreachable');
  });

  it('writes nothing where the owner wants nothing', () => {
    expect(pathOf({ errorPath: 'wn1:/dev/null' })).toBe('discarded');
    expect(pathOf({ errorPath: 'elsewhere:/dev/null' })).toBe('discarded');
    expect(pathOf({ isInteractive: true })).toBe('discarded');
  });
});
