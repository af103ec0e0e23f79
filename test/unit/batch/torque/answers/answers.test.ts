import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parsePbsnodes } from '../../../../../src/batch/torque/answers/pbsnodes.ts';
import { parseQstatJobs } from '../../../../../src/batch/torque/answers/qstat.ts';
import { parseAttributeLists } from '../../../../../src/batch/torque/answers/queues.ts';
import { parseDuration, parseExecHost, parseSize } from '../../../../../src/batch/torque/units.ts';

const fixture = (name: string) =>
  readFileSync(new URL(`../../../../fixtures/torque/${name}`, import.meta.url), 'utf8');

describe('parseQstatJobs', () => {
  it('reads every state and exit status of the recorded answer', () => {
    const jobs = parseQstatJobs(fixture('qstat-x.mixed.xml'));
    expect(jobs.map(({ id, state, exitStatus }) => [id, state, exitStatus])).toEqual([
      ['64.vm', 'C', 0],
      ['65.vm', 'C', 3],
      ['66.vm', 'C', -2],
      ['67.vm', 'R', undefined],
      ['68.vm', 'C', -11],
      ['69.vm', 'C', 271],
      ['70.vm', 'Q', undefined],
      ['71.vm', 'H', undefined],
      ['72.vm', 'C', undefined],
    ]);
  });

  it('reads times, slots and resources', () => {
    const [job] = parseQstatJobs(fixture('qstat-f-x.one-running.xml'));
    expect(job).toEqual({
      ...{
        id: '67.vm',
        name: 'multi',
        owner: 'alice@localhost',
        state: 'R',
        queue: 'vmalice',
        exitStatus: undefined,
      },
      nodes: [{ host: 'vm', slots: 2 }],
      ...{ sessionId: 10337, submitTime: 1795339035, startTime: 1795339038, completionTime: undefined },
      comment: 'Job started on Sun Nov 22 at 09:17',
      errorPath: 'vm:/home/alice/multi.e67',
      variables: expect.stringMatching(/^PBS_O_QUEUE=vmalice,PBS_O_HOME=.*,PBS_O_SERVER=vm$/),
      used: { cpuTime: 0, wallTime: 4, memory: 6360 },
      requested: { slots: 2, cpuTime: 1200, wallTime: 1800, memory: 512 * 1024 },
    });
  });

  it('takes no output for no jobs', () => {
    expect(parseQstatJobs('')).toEqual([]);
    expect(parseQstatJobs('<Data></Data>\n')).toEqual([]);
  });

  it('reads escaped characters, however many', () => {
    const job = '<Job><Job_Id>1.a</Job_Id><job_state>R</job_state><Job_Name>&lt;a&amp;b&gt;</Job_Name></Job>';
    const jobs = parseQstatJobs(`<Data>${job.repeat(3000)}</Data>`);
    expect(jobs.length).toBe(3000);
    expect(jobs.at(-1)?.name).toBe('<a&b>');
  });

  it.each(['qstat: something', '<Data><Job><Job_Id>1.a</Job_Id>', '<html></html>'])(
    'refuses %j rather than take it for an empty server',
    (text) => {
      expect(() => parseQstatJobs(text)).toThrow('must be <Data>...</Data>');
    },
  );
});

describe('parseAttributeLists', () => {
  it('unfolds long values, also those that are folded inside a word', () => {
    const [queue] = parseAttributeLists(fixture('qstat-Q-f.txt'), 'Queue');
    expect(queue?.name).toBe('vmalice');
    expect(queue?.attributes.get('state_count')).toMatch(/Running:1 .*Complete:6$/);
    expect(queue?.attributes.get('resources_default.walltime')).toBe('01:00:00');
  });
});

describe('parsePbsnodes', () => {
  it.each([
    ['pbsnodes-x.one-running.xml', ['free'], 2],
    ['pbsnodes-x.offline.xml', ['offline'], 2],
    ['pbsnodes-x.one-free.xml', ['free'], 0],
  ])('reads %s', async (name, states, usedSlots) => {
    const [node] = await parsePbsnodes(fixture(name));
    expect(node).toMatchObject({
      name: 'vm',
      states,
      usedSlots,
      slots: 4,
      cpus: 2,
      physicalMemory: 24684084,
    });
    expect(node?.torqueVersion).toBe('6.1-dev');
    expect(node?.uname).toMatch(/^Linux vm 6\.18.*x86_64$/);
  });

  it('counts slots where commas part jobs and indices alike', async () => {
    const [node] = await parsePbsnodes(
      '<Data><Node><name>n</name><jobs>0,3/67.vm,4-5/68.vm</jobs></Node></Data>',
    );
    expect(node?.usedSlots).toBe(4);
  });
});

describe('units', () => {
  it.each([
    ['01:02:03', 3723],
    ['1:00', 60],
    ['90', 90],
    ['1:00:00:01', 86401],
    ['a', undefined],
    [undefined, undefined],
  ])('reads the duration %s', (text, seconds) => {
    expect(parseDuration(text)).toBe(seconds);
  });

  it.each([
    ['6360kb', 6360],
    ['512mb', 524288],
    ['536870912b', 524288],
    ['1gb', 1048576],
    ['many', undefined],
  ])('reads the size %s', (text, kib) => {
    expect(parseSize(text)).toBe(kib);
  });

  it('counts slots by host', () => {
    expect(parseExecHost('a/0-3+b/1,5+a/7')).toEqual([
      { host: 'a', slots: 5 },
      { host: 'b', slots: 2 },
    ]);
  });
});
