import { describe, expect, it } from 'vitest';
import { manyJobs } from './answers.ts';
import { describeSite, queueOf, type Site } from './site.ts';

it.each([{}, { max_running: '100' }])(
  'a queue whose nodes are all offline runs no jobs: %j',
  async (limits) => {
    const nodes = [
      { name: 'n1', state: 'offline' },
      { name: 'n2', state: 'down,offline' },
    ];
    const queue = await queueOf({ nodes, queues: { vmalice: limits } });
    expect(queue).toMatchObject({ maxrunning: 0, totalcpus: 0, freeslots: 0, MaxSlotsPerJob: 0 });
  },
);

describe('limits of a queue', () => {
  it('are published in seconds, with those of the server where the queue has none', async () => {
    const queue = await queueOf({
      queues: {
        vmalice: {
          'resources_max.walltime': '24:00:00',
          'resources_min.walltime': '60',
          'resources_max.cput': '48:00:00',
          'resources_max.procct': '16',
          max_running: '100',
          max_queuable: '500',
          max_user_run: '20',
        },
      },
      server: { 'resources_default.walltime': '01:00:00', 'resources_max.walltime': '99:00:00' },
    });
    expect(queue).toMatchObject({
      ...{ maxwalltime: 86_400, minwalltime: 60, defaultwallt: 3600 },
      ...{ maxcputime: 172_800, maxtotalcputime: 172_800, MaxSlotsPerJob: 16 },
      ...{ maxrunning: 100, maxqueuable: 500, maxuserrun: 20 },
    });
  });

  it('are left out where nobody set any, but for what must be there', async () => {
    const queue = await queueOf({});
    for (const key of ['maxwalltime', 'mincputime', 'maxqueuable', 'maxuserrun', 'acl_users'])
      expect(queue).not.toHaveProperty(key);
    expect(queue).toMatchObject({ maxrunning: 4, MaxSlotsPerJob: 4 });
  });

  it.each([
    ['takes no jobs', { enabled: 'False' }],
    ['starts no jobs', { started: 'False' }],
  ])('leave nothing free when the queue %s', async (_, attributes) => {
    const queue = await queueOf({ queues: { vmalice: attributes } });
    expect(queue).toMatchObject({ status: -1, freeslots: 0, totalcpus: 4 });
    expect(queue.users['alice']?.freecpus).toEqual({ 0: 0 });
  });
});

describe('free CPUs of a user', () => {
  const running = manyJobs(3, 1, { hosts: 'n1/0' });
  const nodes = [{ name: 'n1', slots: 20, jobs: '0-2/1.vm' }];
  const freeOf = async (queue: Record<string, string>, site: Site = {}) =>
    (await queueOf({ queues: { vmalice: queue }, jobs: running, nodes, ...site })).users['alice']?.freecpus;

  it('are those of the nodes, for as long as the longest job may run', async () => {
    expect(await freeOf({})).toEqual({ 17: 0 });
    expect(await freeOf({ 'resources_max.walltime': '24:00:00' })).toEqual({ 17: 1440 });
    expect(await freeOf({ 'resources_max.cput': '00:10:00' })).toEqual({ 17: 10 });
  });

  it.each([
    ["the queue's max_user_run", { max_user_run: '5' }, {}, 2],
    ["the queue's max_running", { max_running: '4' }, {}, 1],
    ["the server's max_user_run", {}, { server: { max_user_run: '7' } }, 4],
    ["the server's max_running", {}, { server: { max_running: '3' } }, 0],
  ])('end at %s, less what runs', async (_, queue, site, free) => {
    expect(await freeOf(queue as Record<string, string>, site)).toEqual({ [free]: 0 });
  });

  it('do not shrink by what other users run, if the limit is for each user', async () => {
    const jobs = manyJobs(3, 1, { hosts: 'n1/0', user: 'bob' });
    expect(await freeOf({ max_user_run: '5' }, { jobs })).toEqual({ 5: 0 });
  });

  it('end at the total that arc.conf gives the queue', async () => {
    const ask = { queues: { vmalice: { users: ['alice'], totalcpus: '8' } }, jobs: [] };
    const queue = await queueOf({ jobs: running, nodes, ask });
    expect(queue).toMatchObject({ totalcpus: 8, freeslots: 5, users: { alice: { freecpus: { 5: 0 } } } });
  });
});

describe('running', () => {
  const jobs = [
    { id: '1.vm', hosts: 'n1/0-7' },
    { id: '2.vm', state: 'E', hosts: 'n1/8-10' },
    { id: '3.vm', hosts: 'n1/11-14', user: 'bob' },
    { id: '4.vm', state: 'Q', nodes: '1:ppn=2' },
  ];

  it("counts A-REX's own jobs, as ARC subtracts them, and the CPUs of the others", async () => {
    const ask = { queues: { vmalice: { users: ['alice'] } }, jobs: ['1.vm', '2.vm', '4.vm', 'gone.vm'] };
    const info = await describeSite({ jobs, ask, nodes: [{ name: 'n1', slots: 16, jobs: '0-14/1.vm' }] });
    expect(info.queues['vmalice']).toMatchObject({ running: 2 + 4, freeslots: 1 });
    expect(info.cluster).toMatchObject({ usedcpus: 15 });
  });

  it('counts CPUs where nobody says which jobs are his', async () => {
    const ask = { queues: { vmalice: { users: [] } }, jobs: [] };
    expect(await queueOf({ jobs, ask })).toMatchObject({ running: 15 });
  });
});

describe('access lists', () => {
  const ask = { queues: { vmalice: { users: ['alice', 'root'] } }, jobs: [] };
  const usersOf = async (attributes: Record<string, string>, server = {}) => {
    const queue = await queueOf({ queues: { vmalice: attributes }, server, ask });
    const free = Object.entries(queue.users).flatMap(([user, { freecpus }]) =>
      Object.keys(freecpus).includes('0') ? [] : [user],
    );
    return { listed: queue.acl_users, free };
  };

  it('name the users that the queue names, without hosts and those that it keeps out', async () => {
    expect(await usersOf({ acl_user_enable: 'True', acl_users: 'alice@ce,+carol,-root,dave@*' })).toEqual({
      listed: ['alice', 'carol', 'dave'],
      free: ['alice'],
    });
  });

  it('count only when they are switched on', async () => {
    expect(await usersOf({ acl_user_enable: 'False', acl_users: 'carol' })).toEqual({
      listed: undefined,
      free: ['alice', 'root'],
    });
  });

  it('let users in by their group', async () => {
    expect(await usersOf({ acl_group_enable: 'True', acl_groups: 'root' })).toEqual({
      listed: ['root'],
      free: ['root'],
    });
  });

  it.each([
    ['both of two lists, as TORQUE has it', {}, []],
    ['one of two lists, if the server says so', { acl_logic_or: 'True' }, ['carol', 'root']],
  ])('want a user in %s', async (_, server, listed) => {
    const attributes = {
      ...{ acl_group_enable: 'True', acl_groups: 'root' },
      ...{ acl_user_enable: 'True', acl_users: 'carol' },
    };
    expect((await usersOf(attributes, server)).listed).toEqual(listed);
  });
});

describe('a routing queue', () => {
  const queues = {
    vmalice: { queue_type: 'Route', route_destinations: 'long,short@vm' },
    long: {
      'resources_max.walltime': '48:00:00',
      'resources_default.walltime': '02:00:00',
      max_running: '3',
    },
    short: { 'resources_max.walltime': '01:00:00', max_running: '4' },
    other: {},
  };
  const jobs = [
    { id: '1.vm', state: 'Q' },
    { id: '2.vm', queue: 'long' },
    { id: '3.vm', queue: 'short', state: 'Q' },
    { id: '4.vm', queue: 'other' },
  ];

  it('has the figures and limits of its destinations beside its own', async () => {
    const queue = await queueOf({ queues, jobs });
    expect(queue).toMatchObject({
      ...{ status: 1, running: 1, queued: 2, total: 3, nodes: ['n1'] },
      ...{ maxwalltime: 172_800, defaultwallt: 7200, maxrunning: 7 },
    });
    expect(queue).not.toHaveProperty('minwalltime');
  });

  it('has its own limits first, and is closed when all of its destinations are', async () => {
    const closed = { enabled: 'False' };
    const queue = await queueOf({
      queues: {
        vmalice: { ...queues.vmalice, 'resources_max.walltime': '00:30:00' },
        long: closed,
        short: closed,
      },
    });
    expect(queue).toMatchObject({ maxwalltime: 1800, status: -1, freeslots: 0 });
  });

  it('takes the access list of its destination', async () => {
    const guarded = { acl_user_enable: 'True', acl_users: 'bob' };
    const queue = await queueOf({
      queues: { vmalice: { queue_type: 'Route', route_destinations: 'long' }, long: guarded },
    });
    expect(queue.acl_users).toEqual(['bob']);
    expect(queue.users['alice']?.freecpus).toEqual({ 0: 0 });
  });

  it('may lead round in a circle, or nowhere', async () => {
    const route = { queue_type: 'Route', route_destinations: 'vmalice,back,gone' };
    const back = { queue_type: 'Route', route_destinations: 'vmalice' };
    expect(await queueOf({ queues: { vmalice: route, back } })).toMatchObject({ running: 0, total: 0 });
  });
});
