import { describe, expect, it } from 'vitest';
import { JobElements, type RawJobElement } from '../../../../../src/batch/torque/answers/job-elements.ts';
import { parsePbsnodes } from '../../../../../src/batch/torque/answers/pbsnodes.ts';

/** What `look` finds in each of these jobs, whose elements come in one document. */
function inEach(jobs: readonly string[], look: (job: RawJobElement) => unknown, chunk = 1 << 20): unknown[] {
  const found: unknown[] = [];
  const elements = new JobElements((job) => found.push(look(job)));
  const document = Buffer.from(`<Data>${jobs.map((job) => `<Job>${job}</Job>`).join('\n')}</Data>`);
  for (let at = 0; at < document.length; at += chunk) elements.add(document.subarray(at, at + chunk));
  elements.end();
  return found;
}

describe('a single value of a job', () => {
  it('is that of the job itself, and within an element that of this element alone', () => {
    const job =
      '<a><mem>1kb</mem><walltime>1</walltime></a><mem>2kb</mem><b>\n <mem>3kb</mem>\n</b><mem>4kb</mem><walltime>5</walltime>';
    const look = (element: RawJobElement) => [
      element.text('mem'),
      element.text('mem', 'a'),
      element.text('mem', 'b'),
      element.text('walltime', 'b'),
      element.text('walltime', 'a'),
    ];
    expect(inEach([job], look)).toEqual([['2kb', '1kb', '3kb', undefined, '1']]);
  });

  it('is not found deeper than asked for', () => {
    const job = '<a><c><mem>1kb</mem></c></a><other><mem>2kb</mem></other>';
    expect(inEach([job, job], (element) => [element.text('mem'), element.text('mem', 'a')])).toEqual([
      [undefined, undefined],
      [undefined, undefined],
    ]);
  });

  it('is never that of the job before, also where a job does not have it or has it empty', () => {
    const jobs = [
      '<queue>main</queue><a><mem>1kb</mem></a>',
      '<queue>mail</queue>',
      '<queue></queue><a></a>',
      '<a><mem>2kb</mem></a><queue>main</queue>',
      '<queue>main2</queue>',
    ];
    const look = (element: RawJobElement) => [element.text('queue'), element.text('mem', 'a')];
    const expected = [
      ['main', '1kb'],
      ['mail', undefined],
      [undefined, undefined],
      ['main', '2kb'],
      ['main2', undefined],
    ];
    for (const chunk of [1, 7, 40, 4096]) expect(inEach(jobs, look, chunk)).toEqual(expected);
  });

  it('is told apart from names and values that look much the same', () => {
    const jobs = ['<cput>1</cput><cpat>2</cpat>', '<cpat>2</cpat><cput>1</cput>', '<cput>3</cput>'];
    expect(inEach(jobs, (element) => element.text('cput'))).toEqual(['1', '1', '3']);
  });

  it('is decoded, whatever the job before said', () => {
    const jobs = ['é&lt;', 'é&lt;', 'ab', '&amp;', '&nosuch;', '&nosuch;', 'é'].map(
      (text) => `<comment>${text}</comment>`,
    );
    expect(inEach(jobs, (element) => element.text('comment'))).toEqual([
      'é<',
      'é<',
      'ab',
      '&',
      '&nosuch;',
      '&nosuch;',
      'é',
    ]);
  });

  it('is found, or not, in a job that is not well-formed, and the next job is as it should be', () => {
    const jobs = ['<a></b><queue>x</queue', '<queue>main</queue>'];
    expect(inEach(jobs, (element) => element.text('queue'))[1]).toBe('main');
  });
});

describe('the status of a node', () => {
  const nodeWith = async (status: string) =>
    (await parsePbsnodes(`<Data><Node><name>n1</name><status>${status}</status></Node></Data>`))[0];

  it('has values with commas and with names of others in them, in any order', async () => {
    const status = 'ncpus=4,uname=Linux n1 6.1, #1 a=b,physmem=8kb,jobs=1.vm,xncpus=9';
    expect(await nodeWith(status)).toMatchObject({
      cpus: 4,
      uname: 'Linux n1 6.1, #1 a=b',
      physicalMemory: 8,
    });
    expect(await nodeWith('totmem=9kb,xncpus=9,ncpus=2')).toMatchObject({ cpus: 2, totalMemory: 9 });
    expect(await nodeWith('xncpus=9')).toMatchObject({ cpus: undefined, uname: undefined });
  });
});
