import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { JobElements } from '../../../../../src/batch/torque/answers/job-elements.ts';
import { streamJobElements, streamJobs } from '../../../../../src/batch/torque/answers/qstat.ts';
import { torqueAt } from '../../../../../src/batch/torque/commands.ts';
import { type FakeTorque, fakeTorque } from '../../../ce/fake-torque.ts';

const recorded = readFileSync(new URL('../../../../fixtures/torque/qstat-x.mixed.xml', import.meta.url));

/** Ids with states, of a document that comes in pieces of so many bytes. */
function cut(document: Uint8Array, size: number): string[] {
  const found: string[] = [];
  const elements = new JobElements(({ id, state }) => found.push(`${id} ${state}`));
  for (let at = 0; at < document.length; at += size) elements.add(document.subarray(at, at + size));
  elements.end();
  return found;
}

describe('JobElements', () => {
  it.each([1, 2, 7, 100, 4096, 1 << 20])(
    'finds every job of the recorded answer in chunks of %d bytes',
    (size) => {
      expect(cut(recorded, size)).toEqual([
        ...[
          '64.vm C',
          '65.vm C',
          '66.vm C',
          '67.vm R',
          '68.vm C',
          '69.vm C',
          '70.vm Q',
          '71.vm H',
          '72.vm C',
        ],
      ]);
    },
  );

  it('takes no bytes at all and an empty list for no jobs', () => {
    expect(cut(Buffer.from(''), 1)).toEqual([]);
    expect(cut(Buffer.from('<?xml version="1.0"?>\n<Data>\n</Data>\n'), 3)).toEqual([]);
  });

  it('refuses the recorded answer wherever it is cut short', () => {
    for (let length = 1; length < recorded.lastIndexOf('</Data>') + 7; length += 13)
      expect(() => cut(recorded.subarray(0, length), 512)).toThrow('must be <Data>...</Data>');
  });

  it.each([
    ['text', 'qstat: cannot connect'],
    ['another document', '<html><Data></Data></html>'],
    ['something between jobs', '<Data><Job></Job>oops, the server died here</Data>'],
    ['something behind', '<Data></Data><Job></Job>'],
    ['endless text', 'x'.repeat(5000)],
  ])('refuses %s', (_, document) => {
    expect(() => cut(Buffer.from(document), 10)).toThrow('must be <Data>...</Data>');
  });

  it('refuses a job without an end rather than keep it in memory', () => {
    const elements = new JobElements(() => undefined);
    elements.add(Buffer.from('<Data><Job>'));
    const chunk = Buffer.alloc(1 << 20, 'x');
    expect(() => {
      for (let megabytes = 0; megabytes < 20; megabytes++) elements.add(chunk);
    }).toThrow('one job has more than');
  });

  it('does not take an escaped tag in a value for a tag', () => {
    const names: (string | undefined)[] = [];
    const elements = new JobElements((job) => names.push(job.state, job.text('Job_Name')));
    const name = '&lt;job_state&gt;C&lt;/Job&gt; &#xe9;&#233;&amp;amp; é &nosuch;';
    elements.add(Buffer.from(`<Data><Job><Job_Name>${name}</Job_Name><job_state>R</job_state></Job></Data>`));
    elements.end();
    expect(names).toEqual(['R', '<job_state>C</Job> éé&amp; é &nosuch;']);
  });

  it.each([
    ['dots in names', '<req_information><task_count.0>1</task_count.0></req_information>'],
    [
      'tasks within',
      '<req_information><task_usage.0.task.0><cpu_list>0</cpu_list></task_usage.0.task.0></req_information>',
    ],
    ['dashes, colons and digits in names', '<a-b><c:d>1</c:d><9>x</9></a-b>'],
    ['attributes', '<a b="c">1</a>'],
    ['an empty name', '<>1</>'],
    ['a name with a blank and one that is not ASCII', '<my res>1</my res><größe>1</größe>'],
    ['signs that XML has a meaning for', '<submit_args>-F "a&b > c"</submit_args>'],
    ['what TORQUE makes of a <', '<submit_args>a \x0e b</submit_args>'],
    ['a bare <', '<comment>a < b</comment>'],
    ['an element without an end', '<a>'],
    ['an end without a beginning', '</a>'],
    ['two ends of other names', '<a><b>1</a></b>'],
    ['control characters', '<comment>\x01\x02\x1b[1m</comment>'],
    ['bytes that are no UTF-8', '<comment>\xff\xfe</comment>'],
    ['thirty levels', `${'<a>'.repeat(30)}1${'</a>'.repeat(30)}`],
  ])('reads what is asked for of a job with %s, and the other jobs', (_, odd) => {
    const job = (id: number, more: string) =>
      `<Job><Job_Id>${id}.vm</Job_Id>${more}<job_state>C</job_state><Resource_List><nodes>1:ppn=2</nodes></Resource_List><exit_status>${id}</exit_status></Job>`;
    const document = `<?xml version="1.0"?>\n<Data>${job(1, odd)}${job(2, '')}${job(3, odd)}</Data>\n`;
    const found: unknown[] = [];
    const elements = new JobElements((element) =>
      found.push([
        ...[element.id, element.state, element.text('exit_status')],
        element.text('nodes', 'Resource_List'),
      ]),
    );
    elements.add(Buffer.from(document, 'latin1'));
    elements.end();
    expect(found).toEqual([1, 2, 3].map((id) => [`${id}.vm`, 'C', `${id}`, '1:ppn=2']));
  });

  it.each([
    ['with entities', 'a&lt;b&gt;c&amp;d&quot;&apos;e'],
    ['with the sign that some builds put in place of a <', `a\x0eb>c&d"'e`],
  ])('gives a value back as it was: %s', (_, written) => {
    const found: unknown[] = [];
    const elements = new JobElements((element) => found.push(element.text('submit_args')));
    elements.add(Buffer.from(`<Data><Job><submit_args>${written}</submit_args></Job></Data>`));
    elements.end();
    expect(found).toEqual([`a<b>c&d"'e`]);
  });

  it.each([
    ['an element of another name between jobs', '<Data><Array><x>1</x></Array>JOB</Data>'],
    ['one with attributes', '<Data><Array n="1"><x/></Array>JOB</Data>'],
    [
      'a warning before the document',
      'qstat: using the default server\n<?xml version="1.0"?>\n<Data>JOB</Data>',
    ],
    ['one between declaration and document', '<?xml version="1.0"?>\n  a.b = c\n<Data>JOB</Data>'],
    ['one behind it', '<Data>JOB</Data>\nqstat: 1 job\n'],
    [
      'an empty document before',
      '<?xml version="1.0"?>\n<Data></Data>\n<?xml version="1.0"?>\n<Data>JOB</Data>',
    ],
  ])('finds the job beside %s', (_, document) => {
    const job = '<Job><Job_Id>1.vm</Job_Id><job_state>R</job_state></Job>';
    for (const size of [1, 5, 1000])
      expect(cut(Buffer.from(document.replace('JOB', job)), size)).toEqual(['1.vm R']);
  });

  it('reads a document for each job, which is how TORQUE answers for jobs by their ids', () => {
    const one = (id: number) =>
      `<?xml version="1.0"?>\n<Data><Job><Job_Id>${id}.vm</Job_Id><job_state>C</job_state></Job></Data>\n`;
    const answer = Array.from({ length: 40 }, (_, id) => one(id)).join('');
    for (const size of [1, 64, 1 << 20]) expect(cut(Buffer.from(answer), size)).toHaveLength(40);
    // A cut within any of them is noticed.
    for (let length = 1; length < answer.length - 8; length += 7) {
      const part = answer.slice(0, length);
      if (/<\/Data>\s*$/.test(part)) continue;
      expect(() => cut(Buffer.from(part), 512), part.slice(-40)).toThrow('must be <Data>...</Data>');
    }
  });
});

describe('streaming qstat', () => {
  let torque: FakeTorque;
  beforeEach(() => {
    torque = fakeTorque();
  });
  afterEach(() => torque.remove());

  it('hands over all jobs of the server, parsed or not', async () => {
    torque.answer('qstat', { stdout: recorded.toString() });
    const states: string[] = [];
    const used: unknown[] = [];
    await streamJobElements(torqueAt(torque.binPath), { onElement: ({ state }) => states.push(state) });
    await streamJobs(torqueAt(torque.binPath), { onJob: (job) => used.push(job.used.wallTime) });
    expect(states.join('')).toBe('CCCRCCQHC');
    expect(used).toEqual([2, 1, 0, 4, 15, 2, undefined, undefined, undefined]);
  });

  it('returns the ids that TORQUE says it does not know, beside those that it knows', async () => {
    torque.answer('qstat-job', {
      exitCode: 153,
      stdout: '<Data><Job><Job_Id>2.vm</Job_Id><job_state>C</job_state></Job></Data>',
      stderr: 'qstat: Unknown Job Id Error 1.vm\nqstat: Unknown Job Id Error 99.vm\n',
    });
    const found: string[] = [];
    const unknown = await streamJobElements(torqueAt(torque.binPath), {
      ids: ['1.vm', '2.vm', '3.vm'],
      onElement: ({ id }) => found.push(id),
    });
    expect([...unknown]).toEqual(['1.vm']);
    expect(found).toEqual(['2.vm']);
  });

  it.each([
    ['no answer with the code for an unknown job', { exitCode: 153 }, 'knows no such job'],
    ['a server that is down', { exitCode: 111 }, 'does not answer'],
    ['a cut answer', { stdout: '<Data><Job><Job_Id>1.vm</Job_Id>' }, 'must be <Data>'],
    ['something else', { stdout: 'x'.repeat(100_000) }, 'must be <Data>'],
  ])('fails on %s', async (_, answer, message) => {
    torque.answer('qstat', answer);
    await expect(streamJobElements(torqueAt(torque.binPath), { onElement: () => undefined })).rejects.toThrow(
      message,
    );
  });

  it('tells of jobs that cannot be used, and hands over the others', async () => {
    const job = '<Job><Job_Id>2.vm</Job_Id><job_state>R</job_state></Job>';
    torque.answer('qstat', {
      stdout: `<Data><Job><Job_Id>1.vm</Job_Id></Job>${job}<Job><job_state>C</job_state></Job></Data>`,
    });
    const found: string[] = [];
    const problems: string[] = [];
    await streamJobElements(torqueAt(torque.binPath), {
      onProblem: (problem) => problems.push(problem),
      onElement: ({ id }) => found.push(id),
    });
    expect(found).toEqual(['2.vm']);
    expect(problems).toEqual([expect.stringContaining('2 jobs have no Job_Id or no job_state')]);
  });

  it('calls a job as it was asked for, whichever server TORQUE names', async () => {
    torque.answer('qstat-job', {
      exitCode: 153,
      stdout:
        '<Data><Job><Job_Id>2.pbs</Job_Id><job_state>C</job_state></Job></Data><Data><Job><Job_Id>3</Job_Id><job_state>R</job_state></Job></Data>',
      stderr: 'qstat: Unknown Job Id Error 1.pbs\n',
    });
    const found: string[] = [];
    const unknown = await streamJobElements(torqueAt(torque.binPath), {
      ids: ['1.pbs.scm', '2.pbs.scm', '3.pbs.scm', '4.pbs.scm'],
      onElement: ({ id, shownId }) => found.push(`${shownId} is ${id}`),
    });
    expect([...unknown]).toEqual(['1.pbs.scm']);
    expect(found).toEqual(['2.pbs is 2.pbs.scm', '3 is 3.pbs.scm']);
  });

  it('ends with what the reader of the jobs throws', async () => {
    torque.answer('qstat', { stdout: recorded.toString() });
    const onElement = () => {
      throw new Error('enough');
    };
    await expect(streamJobElements(torqueAt(torque.binPath), { onElement })).rejects.toThrow('enough');
  });
});
