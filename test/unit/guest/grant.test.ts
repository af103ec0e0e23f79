// The #VMBATCH lines: what is read, what is refused and how, and what the node grants.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type GuestRequest, parseGuestRequest, resolveGuestRequest } from '../../../src/guest/grant.ts';
import { parseNodeConfig } from '../../../src/node-file/read.ts';
import { VmbatchError } from '../../../src/util/errors.ts';

const MiB = 1024 ** 2;
const NOTHING: GuestRequest = {
  where: 'job.SC',
  image: undefined,
  imageOfCe: undefined,
  vcpus: undefined,
  memoryBytes: undefined,
  scratchBytes: undefined,
  repositories: undefined,
  stage: undefined,
};
const parse = (script: string) => parseGuestRequest(script, 'job.SC');

function failure(action: () => unknown): VmbatchError {
  try {
    action();
  } catch (error) {
    if (error instanceof VmbatchError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('parseGuestRequest', () => {
  it('reads all keys, from several lines, among PBS lines, comments and blank lines', () => {
    const script = [
      '#!/bin/bash -l',
      '#PBS -N job',
      '',
      '#VMBATCH image=cernvm-4.0 vcpus=2',
      ' \t',
      '  # a comment with blanks before it',
      '#VMBATCH\tmemory=2GiB scratch=20GiB ',
      '#VMBATCH repositories=alice.cern.ch,sft.cern.ch stage=/scratch/a-1.b',
      'echo "#VMBATCH"',
      '#VMBATCH image=too-late',
    ].join('\n');
    expect(parse(script)).toEqual({
      where: 'job.SC',
      image: { value: 'cernvm-4.0', line: 4 },
      vcpus: { value: 2, line: 4 },
      memoryBytes: { value: 2048 * MiB, line: 7 },
      scratchBytes: { value: 20 * 1024 * MiB, line: 7 },
      repositories: { value: ['alice.cern.ch', 'sft.cern.ch'], line: 8 },
      stage: { value: '/scratch/a-1.b', line: 8 },
    });
  });

  it('reads lines that end with CR LF, and a last line without an end', () => {
    expect(parse('#!/bin/sh\r\n\r\n#VMBATCH vcpus=3\r\n#VMBATCH image=demo\r')).toEqual({
      ...NOTHING,
      vcpus: { value: 3, line: 3 },
      image: { value: 'demo', line: 4 },
    });
  });

  it.each([
    ['an empty script', ''],
    ['a script without such lines', '#!/bin/sh\n#PBS -q vmalice\necho\n'],
    ['a line without keys', '#VMBATCH\n#VMBATCH \n'],
    ['a longer word', '#VMBATCHES image=demo\n'],
    ['another case', '#vmbatch image=demo\n'],
    ['a line that is indented', ' #VMBATCH image=demo\n'],
    ['a comment that talks about it', '# VMBATCH image=demo\n##VMBATCH image=demo\n'],
    ['a line after the header', 'true\n#VMBATCH image=demo\n'],
  ])('asks for nothing in %s', (_, script) => {
    expect(parse(script)).toEqual(NOTHING);
  });

  const memoryRule =
    'allowed: a whole number with MiB, GiB or TiB and no blank, such as 512MiB; at least 64MiB';
  const imageRule = 'allowed: a name of 1 to 64 of a-z 0-9 . _ - that begins with a letter or digit';
  const repositoriesRule =
    'allowed: at most 32 names of CernVM-FS repositories such as alice.cern.ch, with commas and no blanks';
  const stageRule =
    'allowed: an absolute path of at least two folders, of A-Z a-z 0-9 _ . + = ~ -, without .. in it';
  it.each([
    [
      'imgae=demo',
      'unknown key "imgae" (did you mean image?), allowed: image, vcpus, memory, scratch, repositories, stage',
    ],
    ['disk=5GiB', 'unknown key "disk", allowed: image, vcpus, memory, scratch, repositories, stage'],
    ['image', 'found "image", allowed: key=value with image, vcpus, memory, scratch, repositories, stage'],
    ['=demo', 'found "=demo", allowed: key=value with image, vcpus, memory, scratch, repositories, stage'],
    [
      'image = demo',
      'found "image", allowed: key=value with image, vcpus, memory, scratch, repositories, stage',
    ],
    [
      'image=demo # mine',
      'found "#", allowed: key=value with image, vcpus, memory, scratch, repositories, stage',
    ],
    ['image=', `image: found "", ${imageRule}`],
    ['image=../../etc/passwd', `image: found "../../etc/passwd", ${imageRule}`],
    ['image=\u001b[31m\0é', `image: found "\\u001b[31m\\u0000\\u00e9", ${imageRule}`],
    [`image=${'x'.repeat(5000)}`, `image: found "${'x'.repeat(76)}..., ${imageRule}`],
    ['image=a image=a', 'image: found again, allowed: once (it is in line 2 already)'],
    ['vcpus=0', 'vcpus: found "0", allowed: a whole number from 1 to 9999'],
    ['vcpus=-1', 'vcpus: found "-1", allowed: a whole number from 1 to 9999'],
    ['vcpus=1e3', 'vcpus: found "1e3", allowed: a whole number from 1 to 9999'],
    ['vcpus=99999', 'vcpus: found "99999", allowed: a whole number from 1 to 9999'],
    ['vcpus=2,memory=2GiB', 'vcpus: found "2,memory=2GiB", allowed: a whole number from 1 to 9999'],
    ['memory=512', `memory: found "512", ${memoryRule}`],
    ['memory=2GB', `memory: found "2GB", ${memoryRule}`],
    ['memory=524288KiB', `memory: found "524288KiB", ${memoryRule}`],
    ['memory=63MiB', `memory: found "63MiB", ${memoryRule}`],
    ['repositories=alice', `repositories: found "alice", ${repositoriesRule}`],
    ['repositories=a.ch,', `repositories: found "a.ch,", ${repositoriesRule}`],
    ['repositories=a.ch;id', `repositories: found "a.ch;id", ${repositoriesRule}`],
    ['repositories=A.ch', `repositories: found "A.ch", ${repositoriesRule}`],
    [
      `repositories=${Array.from({ length: 33 }, (_, index) => `r${index}.x`).join(',')}`,
      `repositories: found "r0.x,r1.x,r2.x,r3.x,r4.x,r5.x,r6.x,r7.x,r8.x,r9.x,r10.x,r11.x,r12.x,r13.x,r1..., ${repositoriesRule}`,
    ],
    ['stage=/scratch', `stage: found "/scratch", ${stageRule}`],
    ['stage=scratch/a', `stage: found "scratch/a", ${stageRule}`],
    ['stage=/scratch/../etc', `stage: found "/scratch/../etc", ${stageRule}`],
    ['stage=/scratch/.', `stage: found "/scratch/.", ${stageRule}`],
    ['stage=/scratch/a/', `stage: found "/scratch/a/", ${stageRule}`],
    ['stage=/scratch/$(id)', `stage: found "/scratch/$(id)", ${stageRule}`],
    ['memory=512 MiB', `memory: found "512", ${memoryRule}`],
  ])('refuses %j and names line, key, found and allowed', (words, text) => {
    expect(failure(() => parse(`#!/bin/sh\n#VMBATCH ${words}\n`))).toMatchObject({
      fault: 'job',
      code: 'request-invalid',
      message: `job.SC:2: ${text}`,
    });
  });

  it('refuses a header of more than 64 KiB, in one line or in many', () => {
    const text = 'the header of the script goes on beyond 64 KiB, allowed: at most 64 KiB';
    expect(failure(() => parse(`#${'x'.repeat(65_536)}`)).message).toBe(`job.SC:1: ${text}`);
    expect(failure(() => parse(' '.repeat(1 << 20))).message).toBe(`job.SC:1: ${text}`);
    expect(failure(() => parse('#\n'.repeat(40_000))).message).toBe(`job.SC:32769: ${text}`);
  });

  it('accepts a header of 64 KiB, and scripts of any length after it', () => {
    const header = `#VMBATCH vcpus=2\n#${'x'.repeat(65_536 - 18)}\n`;
    expect(header).toHaveLength(65_537);
    expect(parse(`${header}echo ${'y'.repeat(1 << 20)}`).vcpus?.value).toBe(2);
    expect(parse(`#VMBATCH vcpus=2\necho ${'y'.repeat(1 << 20)}`).vcpus?.value).toBe(2);
  });

  it('ends with a request or a job fault of bounded length, whatever the script holds', () => {
    const piece = fc.oneof(
      fc.constantFrom(
        '#VMBATCH',
        ' ',
        '\n',
        '\r\n',
        'image=',
        'vcpus=',
        'memory=',
        '1',
        'MiB',
        '#',
        '=',
        '\0',
      ),
      fc.string({ unit: 'binary', maxLength: 200 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        const script = pieces.join('');
        try {
          expect(parse(script).where).toBe('job.SC');
        } catch (error) {
          if (!(error instanceof VmbatchError)) throw error;
          expect(error.fault).toBe('job');
          expect(error.message).toMatch(/^[ -~]{1,300}$/);
        }
      }),
      { numRuns: 500, interruptAfterTimeLimit: 2000 },
    );
  });
});

describe('resolveGuestRequest', () => {
  const example = join(import.meta.dirname, '../../../share/examples/node.yaml');
  const config = parseNodeConfig(readFileSync(example, 'utf8'), 'node.yaml');
  const resolve = (words: string, ppn = 1) =>
    resolveGuestRequest(parse(`#!/bin/sh\n#VMBATCH ${words}\n`), config, {
      ppn,
      queue: 'vmalice',
      groups: ['grid'],
    });

  it('blames the site for an image that arc.conf names and the node lacks, the job for one of its own', () => {
    const named = '# The image is named by arc.conf of ce.example.org\n#VMBATCH image=alma9\n';
    const refusal = (script: string) =>
      failure(() => resolveGuestRequest(parse(script), config, { ppn: 1, queue: 'q', groups: [] }));
    expect(refusal(named)).toMatchObject({
      fault: 'site',
      code: 'image-unknown',
      message: expect.stringMatching(
        /^the image "?alma9"? is named by arc\.conf of ce\.example\.org, not by the job/,
      ),
    });
    expect(refusal('#VMBATCH image=alma9\n')).toMatchObject({ fault: 'job', code: 'image-unknown' });
    expect(refusal('# The image is named by arc.conf of a b\n#VMBATCH image=alma9\n').fault).toBe('job');
  });

  it('grants the defaults of the default image to a job that asks for nothing', () => {
    expect(resolve('')).toEqual({
      imageName: 'demo',
      image: config.images.get('demo'),
      vcpus: 1,
      memoryBytes: 512 * MiB,
      scratchBytes: 0,
      repositories: [],
    });
    expect(resolve('repositories=alice.cern.ch').repositories).toEqual(['alice.cern.ch']);
  });

  it('grants what is asked for, up to the limits themselves', () => {
    expect(resolve('image=disk-image vcpus=8 memory=2GiB')).toMatchObject({
      imageName: 'disk-image',
      vcpus: 8,
      memoryBytes: 2048 * MiB,
    });
  });

  it('sizes the guest by what the job asks TORQUE for, with room for the guest itself', () => {
    const sized = (words: string, mebibytes: number, isVirtual = false) =>
      resolveGuestRequest(parse(`#VMBATCH ${words}\n`), config, {
        ...{ ppn: 1, queue: 'q', groups: [] },
        memory: { bytes: mebibytes * MiB, said: `mem=${mebibytes}mb`, isVirtual },
      }).memoryBytes;
    expect(sized('', 1024)).toBe(1152 * MiB);
    expect(sized('', 100)).toBe(512 * MiB);
    expect(sized('memory=768MiB', 1024)).toBe(768 * MiB);
    expect(sized('', 1920)).toBe(2048 * MiB);
    expect(sized('', 11_000, true)).toBe(2048 * MiB);
    expect(failure(() => sized('', 1921))).toMatchObject({
      fault: 'job',
      code: 'limit-exceeded',
      message: expect.stringMatching(/: found mem=1921mb, which makes a guest of 2049 MiB here, .* 2 GiB, /),
    });
  });

  it('gives a job of several processors as many virtual CPUs, unless it asks for a number', () => {
    expect(resolve('', 3).vcpus).toBe(3);
    expect(resolve('vcpus=2', 3).vcpus).toBe(2);
  });

  it.each([
    ['image=absent', 1, 'image-unknown', 'job.SC:2: image: found "absent", allowed: demo, disk-image'],
    [
      'image=constructor',
      1,
      'image-unknown',
      'job.SC:2: image: found "constructor", allowed: demo, disk-image',
    ],
    ['vcpus=5', 1, 'limit-exceeded', 'job.SC:2: vcpus: found 5, allowed: at most 4, the limit of image demo'],
    [
      '',
      5,
      'limit-exceeded',
      'job.SC: found ppn=5, which is also the number of virtual CPUs, allowed: at most 4, the limit of image demo',
    ],
    [
      'memory=3GiB',
      1,
      'limit-exceeded',
      'job.SC:2: memory: found 3 GiB, allowed: at most 2 GiB, the limit of image demo',
    ],
  ])("refuses %j with ppn %d as the job's fault", (words, ppn, code, message) => {
    expect(failure(() => resolve(words, ppn))).toMatchObject({ fault: 'job', code, message });
  });

  describe('on a node with scratch disks, repositories of its own and an image that is not for everybody', () => {
    const node = parseNodeConfig(
      `queues: [vmalice, vmother]
images:
  demo: { path: /demo.qcow2 }
  special: { path: /special.qcow2, queues: [vmother], groups: [experts, grid] }
default_image: demo
share: { type: nfs, server: "10.0.2.2:/share", path: /shared }
cvmfs: { repositories: [alice.cern.ch] }
disk: { scratch: { default: 1 GiB, maximum: 2 GiB } }
`,
      'node.yaml',
    );
    const ask = (words: string, queue = 'vmalice', groups = ['alice', 'grid']) =>
      resolveGuestRequest(parse(`#VMBATCH ${words}\n`), node, { ppn: 1, queue, groups });

    it('gives the default scratch disk or the one asked for, and both sets of repositories', () => {
      expect(ask('').scratchBytes).toBe(1024 * MiB);
      expect(ask('scratch=2GiB repositories=sft.cern.ch,alice.cern.ch')).toMatchObject({
        scratchBytes: 2048 * MiB,
        repositories: ['alice.cern.ch', 'sft.cern.ch'],
      });
      expect(failure(() => ask('scratch=3GiB'))).toMatchObject({
        fault: 'job',
        code: 'limit-exceeded',
        message: 'job.SC:1: scratch: found 3 GiB, allowed: at most 2 GiB',
      });
      expect(failure(() => resolve('scratch=3GiB')).message).toMatch(/this node gives no scratch disks$/);
    });

    it.each(['1GB', '1 GiB', '15MiB', '1KiB', '-1GiB', ''])('refuses scratch=%s', (value) => {
      expect(failure(() => ask(`scratch=${value}`)).code).toBe('request-invalid');
    });

    it('gives an image only to the queues and groups that may use it', () => {
      expect(ask('image=special', 'vmother').imageName).toBe('special');
      expect(failure(() => ask('image=special'))).toMatchObject({
        fault: 'job',
        code: 'image-refused',
        message: 'job.SC:1: image: special is not for queue vmalice, allowed: vmother',
      });
      expect(failure(() => ask('image=special', 'vmother', ['alice'])).message).toMatch(
        /special is not for the groups of this user, allowed: members of experts, grid$/,
      );
    });
  });

  it.each([0, -1, 1.5, Number.NaN])('calls %d processors a bug of ours', (ppn) => {
    expect(failure(() => resolve('', ppn))).toMatchObject({ fault: 'bug', code: 'ppn-invalid' });
  });
});
