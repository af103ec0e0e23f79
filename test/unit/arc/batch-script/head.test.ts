// What TORQUE and the node are asked for: the #PBS and #VMBATCH lines.
import { describe, expect, it } from 'vitest';
import { buildBatchScript } from '../../../../src/arc/batch-script/batch-script.ts';
import { torqueJobName } from '../../../../src/arc/batch-script/directives.ts';
import { parseArcConfiguration } from '../../../../src/arc/configuration/configuration.ts';
import { type Grami, loadGrami } from '../../../../src/arc/grami.ts';
import { encodeBytes } from '../../../../src/arc/text.ts';
import { VmbatchError } from '../../../../src/util/errors.ts';
import { configure } from './bench.ts';

const FIXTURES = new URL('../../../fixtures/arc/', import.meta.url).pathname;
const CONFIGURATION = configure();

const header = (changes: Partial<Grami>, configuration = CONFIGURATION) =>
  buildBatchScript({ ...loadGrami(`${FIXTURES}hello.grami`), ...changes }, configuration)
    .split('\n\n')[0]
    ?.split('\n')
    .slice(2);

const failure = (changes: Partial<Grami>, configuration = CONFIGURATION): string => {
  try {
    header(changes, configuration);
  } catch (error) {
    if (error instanceof VmbatchError) return `${error.fault} ${error.code}: ${error.message}`;
    throw error;
  }
  return 'accepted';
};

describe('the head of a batch script', () => {
  it('asks for slots on one node if the job does not say how many on each', () => {
    expect(header({ count: 6 })).toEqual(
      expect.arrayContaining(['#PBS -l nodes=1:ppn=6', '#PBS -l mem=3000mb']),
    );
    expect(header({ count: 6 })?.at(-1)).toBe('#VMBATCH image=demo vcpus=6 memory=3000MiB');
  });

  it("gives the guest one node's share of a job on several nodes", () => {
    const lines = header({ count: 8, countPerNode: 4, nodes: 2 });
    expect(lines).toEqual(expect.arrayContaining(['#PBS -l nodes=2:ppn=4', '#PBS -l mem=4000mb']));
    expect(lines?.at(-1)).toBe('#VMBATCH image=demo vcpus=4 memory=2000MiB');
  });

  it('derives a walltime from CPU time alone', () => {
    expect(header({ cpuTime: 7261, wallTime: undefined })).toEqual(
      expect.arrayContaining(['#PBS -l cput=02:01:01', '#PBS -l walltime=02:01:01']),
    );
  });

  it('leaves image, memory and queue to the node and the server when nothing names them', () => {
    const lines = header(
      { memory: undefined, queue: undefined },
      parseArcConfiguration('[lrms]\nlrms=vmbatch\n', 'arc.conf'),
    );
    expect(lines?.join('\n')).not.toMatch(/-q|mem=/);
    expect(lines?.at(-1)).toBe('#VMBATCH vcpus=1');
  });

  it('quotes a session directory with blanks and refuses one that TORQUE cannot be given', () => {
    expect(header({ sessionDirectory: '/srv/my jobs/ID' })).toContain("#PBS -e '/srv/my jobs/ID.comment'");
    expect(() => header({ sessionDirectory: "/srv/it's" })).toThrow(
      `TORQUE cannot be given the path "/srv/it's.comment"`,
    );
    expect(() => header({ sessionDirectory: '/srv/a:b' })).toThrow('TORQUE cannot be given the path');
  });

  it('refuses a queue that would add options', () => {
    expect(() => header({ queue: 'main -l nodes=9' })).toThrow(
      `found "main -l nodes=9", must be a queue's name`,
    );
  });

  it.each([
    ['JAliEn-1700000000000-0', 'JAliEn_17000000'],
    ["tricky 'name' $x é", 'tricky__name___'],
    ['1st', 'N1st'],
    ['日本', 'N__'],
    ['', 'vmbatch'],
  ])("names the job %j as ARC's pbs backend would: %s", (name, expected) => {
    expect(torqueJobName(encodeBytes(name))).toBe(expected);
  });

  it.each([
    [0, -1024],
    [1, -1004],
    [50, -1],
    [100, 1023],
    [101, 1023],
  ])('puts the priority %i on the scale of TORQUE: %i', (priority, expected) => {
    expect(header({ priority })).toContain(`#PBS -p ${expected}`);
  });

  it('asks for a project, and for node properties of the queue, then of the job', () => {
    const lines = header(
      { project: 'alice prod', nodeProperties: ['ssd', 'big:fast'], count: 8, countPerNode: 4, nodes: 2 },
      configure('', '', 'pbs_queue_node=virtual'),
    );
    expect(lines).toContain("#PBS -A 'alice prod'");
    expect(lines).toContain('#PBS -l nodes=2:ppn=4:virtual:ssd:big:fast');
    expect(header({ project: 'alice' })).toContain('#PBS -A alice');
    expect(failure({ project: "a'b" })).toMatch(/^job project-refused: /);
    expect(failure({ project: 'a\nb' })).toMatch(/^job project-refused: /);
    expect(failure({ nodeProperties: ['a+4'] })).toMatch(/^site node-property-refused: /);
  });

  it.each([
    ['ppn=4:ib', {}, 'nodes=1:ppn=4:ib', 'vcpus=4 memory=500MiB'],
    ['ib:ppn=4', {}, 'nodes=1:ppn=4:ib', 'vcpus=4 memory=500MiB'],
    ['ppn=2:ppn=4', {}, 'nodes=1:ppn=4', 'vcpus=4 memory=500MiB'],
    ['ppn=4:gpus=1:ib', { count: 2 }, 'nodes=1:ppn=4:gpus=1:ib', 'vcpus=4 memory=1000MiB'],
    ['ppn=4:ib', { count: 8 }, 'nodes=1:ppn=8:ib', 'vcpus=8 memory=4000MiB'],
    ['ppn=4:ib', { count: 16, countPerNode: 8, nodes: 2 }, 'nodes=2:ppn=8:ib', 'vcpus=8 memory=4000MiB'],
    ['gridlong_nodes', {}, 'nodes=1:ppn=1:gridlong_nodes', 'vcpus=1 memory=500MiB'],
    ['ib', { nodeProperties: ['big:ppn=6'] }, 'nodes=1:ppn=6:ib:big', 'vcpus=6 memory=500MiB'],
  ])(
    'asks for one ppn, and a guest of as many CPUs: pbs_queue_node = %s, %j',
    (request, job, nodes, guest) => {
      const lines = header(job, configure('', '', `pbs_queue_node=${request}`));
      expect(lines).toContain(`#PBS -l ${nodes}`);
      expect(lines?.find((line) => line.startsWith('#VMBATCH'))).toBe(`#VMBATCH image=demo ${guest}`);
    },
  );

  it('names who is to mend it when the queue asks for more CPUs than its guests may have', () => {
    const contradicted = configure('', 'max_vcpus=2', 'pbs_queue_node=ppn=4');
    expect(() => header({}, contradicted)).toThrow(/asks for ppn=4, and a guest may have max_vcpus=2/);
    expect(() => header({ count: 3 }, contradicted)).toThrow(/the job asks for 4 slots/);
  });

  it.each(['20300102030405Z', '2030-01-02T03:04:05Z', '20300102030405'])(
    'starts at %s, told to qsub in its own time zone',
    (startTime) => {
      const line = header({ startTime })?.find((found) => found.startsWith('#PBS -a '));
      const [, year, month, day, hour, minute, second] =
        /^#PBS -a (\d{4})(\d\d)(\d\d)(\d\d)(\d\d)\.(\d\d)$/.exec(line ?? '') ?? [];
      const local = new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}`);
      expect(local.toISOString()).toBe('2030-01-02T03:04:05.000Z');
    },
  );

  it('refuses a start time that is none', () => {
    expect(failure({ startTime: 'tomorrow' })).toBe(
      `job start-time-refused: the job's start time "tomorrow" is none; allowed: YYYYMMDDHHMMSSZ or YYYY-MM-DDTHH:MM:SSZ`,
    );
    expect(failure({ startTime: '20301302030405Z' })).toMatch(/^job start-time-refused/);
  });

  it("takes the memory of the queue, then of all queues, for a job that does not say, and adds the guest's own", () => {
    const own = configure('', 'memory_overhead=100MiB', 'defaultmemory=700');
    expect(header({ memory: undefined, count: 2 }, own)).toEqual(
      expect.arrayContaining(['#PBS -l mem=1400mb', '#VMBATCH image=demo vcpus=2 memory=1500MiB']),
    );
    const all = configure('[lrms]\ndefaultmemory=300');
    expect(header({ memory: undefined }, all)).toContain('#PBS -l mem=300mb');
    expect(header({ memory: 900 }, own)).toContain('#PBS -l mem=900mb');
  });

  it('never asks for a guest with less memory than a node gives', () => {
    expect(header({ memory: 5 })).toEqual(
      expect.arrayContaining(['#PBS -l mem=5mb', '#VMBATCH image=demo vcpus=1 memory=64MiB']),
    );
  });

  it("asks for an exclusive node by its memory, as ARC does, and not for more than the job's own without it", () => {
    const known = configure('', '', 'nodememory=16000');
    expect(header({ exclusiveNode: true }, known)).toEqual(
      expect.arrayContaining(['#PBS -l mem=16000mb', '#VMBATCH image=demo vcpus=1 memory=500MiB']),
    );
    expect(header({ exclusiveNode: true, count: 8, countPerNode: 4, nodes: 2 }, known)).toContain(
      '#PBS -l mem=32000mb',
    );
    expect(header({ exclusiveNode: true, memory: 20000 }, known)).toContain('#PBS -l mem=20000mb');
    expect(header({ exclusiveNode: true })).toContain('#PBS -l mem=500mb');
  });

  it("asks for the image and the repositories of the job's choice, else of its queue", () => {
    const site = configure('', 'image=alma-9 images=cernvm-4 repositories=alice.cern.ch,sft.cern.ch');
    expect(header({}, site)?.at(-1)).toBe(
      '#VMBATCH image=alma-9 vcpus=1 memory=500MiB repositories=alice.cern.ch,sft.cern.ch',
    );
    expect(header({ image: 'cernvm-4', repositories: 'na62.cern.ch' }, site)?.at(-1)).toBe(
      '#VMBATCH image=cernvm-4 vcpus=1 memory=500MiB repositories=na62.cern.ch',
    );
  });

  it('refuses an image that is not allowed and names those that are', () => {
    expect(failure({ image: 'windows' })).toBe(
      'job image-not-allowed: the job asks for the image "windows"; its queue has: demo, cernvm-4',
    );
    expect(failure({ image: 'demo vcpus=99' })).toMatch(/^job image-not-allowed/);
    expect(failure({ image: 'demo' }, parseArcConfiguration('[lrms]\nlrms=vmbatch\n', 'arc.conf'))).toBe(
      'job image-not-allowed: the job asks for the image "demo"; its queue has none to choose from',
    );
    expect(failure({ repositories: 'alice.cern.ch memory=9GiB' })).toMatch(/^job repositories-invalid/);
  });

  it("refuses more than the queue's guests may have and names the limit", () => {
    const site = configure('', 'max_vcpus=4 max_memory=4GiB memory_overhead=96MiB');
    expect(failure({ count: 5 }, site)).toBe(
      'job limit-exceeded: the job asks for 5 slots on a node, and its guest may have 4 virtual CPUs (max_vcpus=4 of its queue)',
    );
    expect(failure({ count: 2, memory: 2000 }, site)).toBe('accepted');
    expect(failure({ count: 2, memory: 2001 }, site)).toBe(
      'job limit-exceeded: the job needs a guest of 4098 MiB (2 × 2001 MB, and 96 MiB for the guest itself), and it may have 4 GiB (max_memory=4 GiB of its queue)',
    );
    expect(failure({ count: 8, countPerNode: 4, nodes: 2 }, site)).toBe('accepted');
  });
});
