import { describe, expect, it } from 'vitest';
import { describeSite, queueOf } from './site.ts';

it.each(['ppn=4:ib', 'ib:ppn=4', 'ppn=4:gpus=1:ib'])(
  'nodes of a queue with pbs_queue_node = %s are those with its properties',
  async (request) => {
    const info = await describeSite({
      conf: `[queue:vmalice]\npbs_queue_node=${request}`,
      nodes: [
        { name: 'n1', slots: 8, properties: 'ib' },
        { name: 'n2', slots: 8, properties: 'ib,fat' },
        { name: 'n3', slots: 8, properties: 'fat' },
      ],
    });
    expect(info.queues['vmalice']).toMatchObject({ nodes: ['n1', 'n2'], totalcpus: 16 });
    expect(info.warnings).toEqual([]);
  },
);

it('a request for slots alone is one for any node', async () => {
  const info = await describeSite({ conf: '[queue:vmalice]\npbs_queue_node=ppn=4' });
  expect(info.queues['vmalice']?.nodes).toEqual(['n1']);
});

describe('nodes', () => {
  const nodes = [
    { name: 'n1', properties: 'grid,fast', slots: 8 },
    { name: 'n2', properties: 'grid' },
    { name: 'n3', properties: 'desktop' },
    { name: 'n4' },
  ];

  it.each([
    ['arc.conf has nothing', '[queue:vmalice]', {}, ['n1', 'n2', 'n3', 'n4']],
    ['all grid nodes have a property', 'pbs_dedicated_node_string=grid\n[queue:vmalice]', {}, ['n1', 'n2']],
    ['the queue has one', '[queue:vmalice]\npbs_queue_node=fast', {}, ['n1']],
    ['both have one', 'pbs_dedicated_node_string=grid\n[queue:vmalice]\npbs_queue_node=desktop', {}, []],
    [
      'TORQUE makes jobs ask for one',
      '[queue:vmalice]',
      { 'resources_default.neednodes': 'desktop' },
      ['n3'],
    ],
    [
      'TORQUE makes it part of the request',
      '[queue:vmalice]',
      { 'resources_default.nodes': '1:grid:ppn=2' },
      ['n1', 'n2'],
    ],
    [
      'the queue is bound to hosts',
      '[queue:vmalice]',
      { acl_host_enable: 'False', acl_hosts: 'n2+n4' },
      ['n2', 'n4'],
    ],
    [
      'a list of submitting hosts was left behind',
      '[queue:vmalice]',
      { acl_host_enable: 'False', acl_hosts: 'ce' },
      ['n1', 'n2', 'n3', 'n4'],
    ],
  ])('are those of the queue when %s', async (_, conf, attributes, expected) => {
    const info = await describeSite({
      queues: { vmalice: attributes as Record<string, string> },
      nodes,
      conf,
    });
    expect(info.queues['vmalice']?.nodes).toEqual(expected);
    expect(Object.keys(info.nodes)).toEqual(expected);
    const slots = (name: string) => (name === 'n1' ? 8 : 4);
    expect(info.cluster.totalcpus).toBe(expected.reduce((sum, name) => sum + slots(name), 0));
    expect(info.warnings.filter((line) => line.includes('no node is for this queue'))).toHaveLength(
      expected.length === 0 ? 1 : 0,
    );
  });

  it("are those with the queue's name and those without properties, if there are any of that name", async () => {
    const named = [{ name: 'n0', properties: 'vmalice' }, ...nodes];
    expect((await queueOf({ nodes: named })).nodes).toEqual(['n0', 'n4']);
  });

  it.each([
    ['free', { state: 'free' }, [1, 1], []],
    ['partly used', { jobs: '0-2/1.vm' }, [1, 1], []],
    ['full by its slots', { jobs: '0-3/1.vm' }, [1, 0], []],
    ['full by its state', { state: 'job-exclusive' }, [1, 0], []],
    ['reserved', { state: 'reserve' }, [1, 0], ['VMBATCH-NODE-RESERVED']],
    ['busy', { state: 'busy' }, [1, 0], ['VMBATCH-NODE-BUSY']],
    ['in standby', { power: 'Standby' }, [0, 0], ['VMBATCH-NODE-STANDBY']],
    ['offline', { state: 'offline', note: 'new disk' }, [0, 0], ['VMBATCH-NODE-OFFLINE']],
    [
      'offline by vmbatch',
      { state: 'offline', note: 'vmbatch: no image' },
      [0, 0],
      ['VMBATCH-NODE-OFFLINE-BY-VMBATCH'],
    ],
    ['down', { state: 'down' }, [0, 0], ['VMBATCH-NODE-DOWN']],
    ['down and taken out', { state: 'down,offline' }, [0, 0], ['VMBATCH-NODE-OFFLINE']],
    ['unknown', { state: 'state-unknown' }, [0, 0], ['VMBATCH-NODE-UNKNOWN']],
  ])('are told apart: %s', async (_, node, [isavailable, isfree], tags) => {
    const info = await describeSite({ nodes: [{ name: 'n1', properties: 'fast', ...node }] });
    expect(info.nodes['n1']).toMatchObject({ isavailable, isfree, tags: ['fast', ...tags] });
    expect(info.cluster.totalcpus).toBe(isavailable === 1 ? 4 : 0);
    expect(info.queues['vmalice']?.freeslots === 0).toBe(isfree === 0);
  });

  it('are named in the log, a warning only for those that vmbatch took out', async () => {
    const out = Array.from({ length: 12 }, (_, index) => ({
      name: `d${index}`,
      state: 'offline',
      note: index === 0 ? 'new disk' : 'later',
    }));
    const info = await describeSite({
      nodes: [{ name: 'n1' }, { name: 'n2', state: 'offline', note: 'vmbatch: 3 guests failed' }, ...out],
    });
    expect(info.warnings).toEqual(['1 of 14 nodes is taken out by vmbatch: n2 (vmbatch: 3 guests failed)']);
    expect(info.notes).toEqual([
      expect.stringMatching(
        /^12 of 14 nodes are taken out by an administrator: d0 \(new disk\), .* and 2 more$/,
      ),
    ]);
  });

  it('carry the images of their queues, and MB of memory as ARC publishes them', async () => {
    const info = await describeSite({
      conf: '[queue:vmalice]\n[custom:vmbatch]\nimage=sl7\nimages=sl7,el9',
    });
    expect(info.nodes['n1']).toMatchObject({
      tags: ['VMBATCH-IMAGE-sl7', 'VMBATCH-IMAGE-el9'],
      ...{ pmem: 2048, vmem: 4096, slots: 4 },
      ...{ sysname: 'Linux', release: '6.1.0', machine: 'x86_64' },
    });
    // ARC would count the node's CPUs once for each of its queues.
    expect(info.nodes['n1']).not.toHaveProperty('lcpus');
    expect(info.images).toEqual({ vmalice: ['sl7', 'el9'] });
  });

  it('are missing from the answer only with a warning if TORQUE does not have the queue', async () => {
    const info = await describeSite({ queues: { other: {} } });
    expect(info.queues).toEqual({});
    expect(info.warnings).toEqual(['[queue:vmalice]: TORQUE has no queue of this name']);
  });
});
