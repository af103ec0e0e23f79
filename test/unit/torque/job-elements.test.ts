import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { torqueAt } from '../../../src/torque/commands.ts';
import { JobElements } from '../../../src/torque/job-elements.ts';
import { streamJobElements, streamJobs } from '../../../src/torque/qstat.ts';
import { textOf } from '../../../src/torque/xml.ts';
import { type FakeTorque, fakeTorque } from '../ce/fake-torque.ts';

const recorded = readFileSync(new URL('../../fixtures/torque/qstat-x.mixed.xml', import.meta.url));

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
    const elements = new JobElements((job) => names.push(job.state, textOf(job.parse(), 'Job_Name')));
    const name = '&lt;job_state&gt;C&lt;/Job&gt; &#xe9;&#233;&amp;amp; é &nosuch;';
    elements.add(Buffer.from(`<Data><Job><Job_Name>${name}</Job_Name><job_state>R</job_state></Job></Data>`));
    elements.end();
    expect(names).toEqual(['R', '<job_state>C</Job> éé&amp; é &nosuch;']);
  });

  it.each(['<Job><a></Job>', '<Job><a></b></Job>', '<Job><a b="c"></a></Job>', '<Job>a < b</Job>'])(
    'refuses to parse %s',
    (job) => {
      const elements = new JobElements((job) => job.parse());
      expect(() => elements.add(Buffer.from(`<Data>${job}</Data>`))).toThrow('not well-formed');
    },
  );
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

  it('ends with what the reader of the jobs throws', async () => {
    torque.answer('qstat', { stdout: recorded.toString() });
    const onElement = () => {
      throw new Error('enough');
    };
    await expect(streamJobElements(torqueAt(torque.binPath), { onElement })).rejects.toThrow('enough');
  });
});
