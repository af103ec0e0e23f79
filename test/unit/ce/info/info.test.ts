import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseArcConfiguration } from '../../../../src/arc/configuration/configuration.ts';
import type { JobElement } from '../../../../src/batch/torque/answers/qstat.ts';
import { parseQstatJobs } from '../../../../src/batch/torque/answers/qstat.ts';
import { torqueAt } from '../../../../src/batch/torque/commands.ts';
import { information } from '../../../../src/ce/info/info.ts';
import { JobCollector } from '../../../../src/ce/info/jobs.ts';
import { parseInformationRequest } from '../../../../src/ce/info/request.ts';
import { type FakeTorque, fakeTorque } from '../fake-torque.ts';
import { manyJobs, pbsnodesAnswer, qstatAnswer, queuesAnswer } from './answers.ts';
import { describeSite } from './site.ts';

const fixture = (name: string) =>
  readFileSync(new URL(`../../../fixtures/torque/${name}`, import.meta.url), 'utf8');

let torque: FakeTorque;
beforeEach(() => {
  torque = fakeTorque();
});
afterEach(() => torque.remove());

function answerAsRecorded(): void {
  torque.answer('qstat', { stdout: fixture('qstat-x.mixed.xml') });
  torque.answer('qstat-Q', { stdout: fixture('qstat-Q-f.txt') });
  torque.answer('qstat-B', { stdout: fixture('qstat-B-f.txt') });
  torque.answer('pbsnodes', { stdout: fixture('pbsnodes-x.one-running.xml') });
}

const DOWN = { exitCode: 111, stderr: 'cannot connect to server vm\n' };

describe('information', () => {
  const conf = parseArcConfiguration(
    '[lrms]\nlrms=vmbatch vmalice\n[queue:vmalice]\n[custom:vmbatch]\nimage=demo\n',
    'arc.conf',
  );

  it('describes the recorded site as the golden file has it, with four processes', async () => {
    answerAsRecorded();
    const request = {
      queues: { vmalice: { users: ['alice'] } },
      jobs: ['67.vm', '69.vm', '70.vm', '71.vm', '999.vm'],
    };
    const info = await information(
      torqueAt(torque.binPath),
      conf,
      parseInformationRequest(JSON.stringify(request)),
    );
    await expect(`${JSON.stringify(info, null, 2)}\n`).toMatchFileSnapshot(
      new URL('../../../golden/ce/info.json', import.meta.url).pathname,
    );
    expect(torque.calls()).toHaveLength(4);
  });

  it('says so when TORQUE names no queue', async () => {
    torque.answer('qstat-Q', { stdout: '' });
    torque.answer('pbsnodes', { stdout: pbsnodesAnswer([{ name: 'n1' }]) });
    const info = await information(torqueAt(torque.binPath), conf);
    expect(info.problems).toEqual([expect.stringContaining('qstat -Q -f: names no queue')]);
  });

  it('takes the queues of arc.conf and all of their jobs if nobody asks', async () => {
    torque.answer('qstat', {
      stdout: qstatAnswer([{ id: '1.vm' }, { id: '2.vm', queue: 'other' }, { id: '3.vm', state: 'C' }]),
    });
    torque.answer('qstat-Q', { stdout: queuesAnswer({ vmalice: {}, other: {} }) });
    torque.answer('pbsnodes', { stdout: pbsnodesAnswer([{ name: 'n1' }]) });
    const info = await information(torqueAt(torque.binPath), conf);
    expect(Object.keys(info.queues)).toEqual(['vmalice']);
    expect(Object.keys(info.jobs)).toEqual(['1.vm', '3.vm']);
  });

  it('is an empty document with the reasons when TORQUE does not answer', async () => {
    for (const program of ['qstat', 'qstat-Q', 'qstat-B', 'pbsnodes'] as const) torque.answer(program, DOWN);
    const info = await information(torqueAt(torque.binPath), conf);
    expect(info.cluster).toMatchObject({ totalcpus: 0, runningjobs: 0, lrms_version: '' });
    expect(info).toMatchObject({ queues: {}, jobs: {}, nodes: {}, warnings: [] });
    expect(info.problems).toHaveLength(4);
    expect(info.problems[0]).toContain('the batch server does not answer');
  });

  it('says nothing of any job if the answer was cut short', async () => {
    answerAsRecorded();
    const whole = fixture('qstat-x.mixed.xml');
    torque.answer('qstat', { stdout: whole.slice(0, -30) });
    const info = await information(torqueAt(torque.binPath), conf);
    expect(info.problems).toEqual([expect.stringContaining('qstat -x')]);
    expect(info.jobs).toEqual({});
    expect(info.queues['vmalice']).toMatchObject({ running: 0, queued: 0, totalcpus: 4 });
  });

  it('knows the version from a node if the server does not say it', async () => {
    expect((await describeSite({})).cluster.lrms_version).toBe('6.1.2');
    expect((await describeSite({ server: { pbs_version: '6.1.3' } })).cluster.lrms_version).toBe('6.1.3');
  });
});

describe('jobs', () => {
  it('have the states that A-REX counts by, and a rank among those that wait in their queue', async () => {
    const states = { R: 'R', E: 'R', S: 'S', Q: 'Q', H: 'Q', W: 'Q', T: 'Q', C: 'EXECUTED' };
    const jobs = Object.keys(states).map((state, index) => ({ id: `${index}.vm`, state }));
    const elsewhere = { id: '99.vm', state: 'Q', queue: 'other' };
    const ids = [...jobs, elsewhere].map(({ id }) => id);
    const info = await describeSite({
      jobs: [elsewhere, ...jobs],
      ask: { queues: { vmalice: {} }, jobs: ids },
    });
    expect(ids.map((id) => info.jobs[id]?.status)).toEqual([...Object.values(states), 'Q']);
    expect(ids.map((id) => info.jobs[id]?.rank)).toEqual([
      ...[undefined, undefined, undefined, 1, 2, 3, 4, undefined],
      1,
    ]);
  });

  it('say what they use and asked for, where they run, and why they wait', async () => {
    const info = await describeSite({
      jobs: [
        {
          id: '1.vm',
          hosts: 'n1/0-1+n2/3',
          more: '<resources_used><cput>00:01:05</cput><walltime>120</walltime><mem>6360kb</mem></resources_used><session_id>77</session_id>',
        },
        { id: '2.vm', state: 'Q', nodes: '2:ppn=4', more: '<comment>no node is free</comment>' },
        { id: '3.vm', more: '<session_id>0</session_id>' },
      ],
      ask: { queues: { vmalice: {} }, jobs: ['1.vm', '2.vm', '3.vm'] },
    });
    expect(info.jobs['1.vm']).toEqual({
      ...{ status: 'R', cpus: 3, nodes: ['n1', 'n2'], comment: [] },
      ...{ walltime: 120, reqwalltime: 3600 },
    });
    expect(info.jobs['2.vm']).toMatchObject({
      cpus: 8,
      nodes: [],
      comment: ['LRMS: no node is free'],
    });
    expect(info.jobs['3.vm']?.comment).toEqual(['LRMS: the virtual machine of this job is being started']);
  });

  it('are not even read if they have ended and nobody asks, however many TORQUE keeps', () => {
    const read = new Set<string>();
    const job = (id: string, state: string): JobElement => ({
      id,
      shownId: id,
      state,
      text: (name) => {
        read.add(id);
        return name === 'queue' ? 'vmalice' : undefined;
      },
      parse: () => {
        throw new Error('nobody needs all of a job');
      },
    });
    const jobs = new JobCollector(['5000.vm']);
    for (let index = 0; index < 10_000; index++) jobs.add(job(`${index}.vm`, index === 7 ? 'R' : 'C'));
    expect([...read]).toEqual(['7.vm', '5000.vm']);
    expect(Object.keys(jobs.found(new Set()))).toEqual(['5000.vm']);
  });
});

describe('the CPUs of a job', () => {
  it.each([
    ['n1/0-3', '1:ppn=4', 4, ['n1']],
    ['n1/2', '1:ppn=8', 8, ['n1']],
    ['n1/0+n2/0', '2:ppn=8', 16, ['n1', 'n2']],
    ['n1/0-7', '1', 8, ['n1']],
    ['n1/0+n1/1+n2/5', '1:ppn=2+n2:ppn=1', 3, ['n1', 'n2']],
  ])('are those that it holds: %s for %s', async (hosts, neededNodes, cpus, nodes) => {
    const more = `<Resource_List><neednodes>${neededNodes}</neednodes></Resource_List>`;
    const element = `<Job><Job_Id>1.vm</Job_Id><job_state>R</job_state><queue>vmalice</queue><exec_host>${hosts}</exec_host>${more}</Job>`;
    const [job] = parseQstatJobs(`<Data>${element}</Data>`);
    expect(job?.nodes.reduce((sum, { slots }) => sum + slots, 0)).toBe(cpus);
    const info = await describeSite({
      jobs: [{ id: '1.vm', hosts, nodes: neededNodes }],
      nodes: [
        { name: 'n1', slots: 8 },
        { name: 'n2', slots: 8 },
      ],
      ask: { queues: { vmalice: {} }, jobs: ['1.vm'] },
    });
    expect(info.jobs['1.vm']).toMatchObject({ cpus, nodes });
    expect(info.cluster).toMatchObject({ usedcpus: cpus, runningjobs: 1 });
  });
});

describe('a job that TORQUE calls otherwise', () => {
  const ask = { queues: { vmalice: {} }, jobs: ['5.pbs.scm', '6.pbs.scm'] };

  it.each(['5.pbs', '5', '5.PBS.example.org'])('is the one that was asked for: %s', async (id) => {
    const info = await describeSite({ jobs: [{ id }, { id: '6.other' }], ask });
    expect(info.jobs).toEqual({ '5.pbs.scm': expect.objectContaining({ status: 'R', nodes: ['n1'] }) });
    expect(info.warnings).toEqual([]);
  });

  it('counts as one of the CE, not as somebody else’s CPUs', async () => {
    const eight = { id: '5.pbs', hosts: 'n1/0-7', nodes: '1:ppn=8' };
    const nodes = [{ name: 'n1', slots: 16 }];
    const { queues } = await describeSite({ jobs: [eight], nodes, ask });
    expect(queues['vmalice']?.running).toBe(1);
  });

  it('is left out with a warning when it may be either of two', async () => {
    const info = await describeSite({
      jobs: [{ id: '5.pbs' }, { id: '5.pbs.other' }, { id: '6.pbs.scm' }],
      ask,
    });
    expect(Object.keys(info.jobs)).toEqual(['6.pbs.scm']);
    expect(info.warnings).toEqual([
      expect.stringContaining('batch job 5.pbs.scm: TORQUE tells of 5.pbs and 5.pbs.other'),
    ]);
  });

  it('is never one that was asked for by its very id', async () => {
    const info = await describeSite({ jobs: [{ id: '5.pbs', state: 'C' }, { id: '5.pbs.scm' }], ask });
    expect(info.jobs['5.pbs.scm']?.status).toBe('R');
  });
});

describe('sums', () => {
  it('of slots in use have the jobs of every queue on the nodes, and those of no other node', async () => {
    const { cluster } = await describeSite({
      queues: { vmalice: {}, local: {} },
      conf: '[queue:vmalice]\npbs_queue_node=grid',
      nodes: [
        { name: 'n1', slots: 8, properties: 'grid' },
        { name: 'n2', slots: 8 },
      ],
      jobs: [
        { id: '1.vm', hosts: 'n1/0' },
        { id: '2.vm', hosts: 'n1/1-3', nodes: '1:ppn=3', queue: 'local' },
        { id: '3.vm', hosts: 'n1/4+n2/0', nodes: '2', queue: 'local' },
        { id: '4.vm', hosts: 'n2/1-4', nodes: '1:ppn=4', queue: 'local' },
        { id: '5.vm', state: 'Q', queue: 'local' },
      ],
    });
    expect(cluster).toMatchObject({ totalcpus: 8, usedcpus: 5, runningjobs: 3, queuedjobs: 0 });
  });

  it('are of the queues asked for alone, CPUs and jobs apart', async () => {
    const info = await describeSite({
      queues: { vmalice: {}, other: {} },
      jobs: [
        { id: '1.vm', hosts: 'n1/0-2' },
        { id: '2.vm', state: 'Q', nodes: '1:ppn=4' },
        { id: '3.vm', state: 'S' },
        ...manyJobs(5, 10, { queue: 'other', state: 'Q' }),
        ...manyJobs(5, 20, { state: 'C' }),
      ],
    });
    expect(info.cluster).toMatchObject({ usedcpus: 3, queuedcpus: 4, runningjobs: 1, queuedjobs: 1 });
    expect(info.queues).toMatchObject({
      vmalice: { running: 3, queued: 1, suspended: 1, total: 3, users: { alice: { queuelength: 1 } } },
    });
    expect(Object.keys(info.queues)).toEqual(['vmalice']);
  });
});

describe('parseInformationRequest', () => {
  it('reads what the module writes', () => {
    const request = parseInformationRequest(
      '{"queues":{"a":{"users":["u"],"totalcpus":"8"},"b":{}},"jobs":["1.vm"]}',
    );
    expect(request.jobs).toEqual(['1.vm']);
    expect([...request.queues]).toEqual([
      ['a', { users: ['u'], totalCpus: 8 }],
      ['b', { users: [], totalCpus: undefined }],
    ]);
  });

  it.each([
    '',
    '7',
    '[]',
    '{}',
    '{"queues":{},"jobs":[1]}',
    '{"queues":[],"jobs":[]}',
    '{"queues":{"a":7},"jobs":[]}',
  ])('refuses %j and shows what it must be', (text) => {
    expect(() => parseInformationRequest(text)).toThrow('must be {"queues":');
  });
});
