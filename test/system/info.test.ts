// The information provider as A-REX runs it: ARC's CEinfo.pl with VMBATCHmod.pm and the built program,
// TORQUE's commands are stubs. What it prints is what clients such as JAliEn read.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { XMLParser } from 'fast-xml-parser';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type FakeTorque, fakeTorque } from '../unit/ce/fake-torque.ts';
import {
  manyJobs,
  pbsnodesAnswer,
  qstatAnswer,
  queuesAnswer,
  serverAnswer,
} from '../unit/ce/info/answers.ts';

const ROOT = new URL('../..', import.meta.url).pathname;
const ARC = '/usr/share/arc';

/** The program and an ARC that has our module, both in a directory of their own. */
let installed: string;
let torque: FakeTorque;
let site: string;

beforeAll(() => {
  if (!existsSync(`${ARC}/CEinfo.pl`)) throw new Error(`there is no ${ARC}: install nordugrid-arc-arex`);
  installed = mkdtempSync(join(tmpdir(), 'vmbatch-info-'));
  execFileSync(process.execPath, [join(ROOT, 'scripts/build.mjs'), join(installed, 'dist')]);
  const location = join(installed, 'location');
  mkdirSync(join(location, 'share/arc'), { recursive: true });
  for (const folder of ['bin', 'lib']) symlinkSync(`/usr/${folder}`, join(location, folder));
  for (const file of readdirSync(ARC)) symlinkSync(join(ARC, file), join(location, 'share/arc', file));
  symlinkSync(join(installed, 'dist/arc-backend/VMBATCHmod.pm'), join(location, 'share/arc/VMBATCHmod.pm'));
});
afterAll(() => rmSync(installed, { recursive: true, force: true }));

beforeEach(() => {
  torque = fakeTorque();
  site = torque.directory;
  for (const folder of ['control/accepting', 'control/processing', 'control/finished', 'session'])
    mkdirSync(join(site, folder), { recursive: true });
  torque.answer('qstat-Q', {
    stdout: queuesAnswer({ vmalice: { 'resources_max.walltime': '24:00:00' }, other: {} }),
  });
  torque.answer('qstat-B', { stdout: serverAnswer({ pbs_version: '6.1.2' }) });
  torque.answer('pbsnodes', {
    stdout: pbsnodesAnswer([
      { name: 'n1', slots: 200 },
      { name: 'n2', state: 'down', slots: 200 },
    ]),
  });
  return () => torque.remove();
});

/** A job of A-REX that is in the batch system. */
function addGridJob(localId: string, vo: string | undefined): void {
  const id = `GRID${localId.replace('.', '')}`;
  writeFileSync(
    join(site, `control/job.${id}.local`),
    `globalid=${id}\ninterface=org.nordugrid.arcrest\nlrms=vmbatch\nqueue=vmalice\nlocalid=${localId}\nsubject=/CN=A User\n${
      vo === undefined ? '' : `voms=/${vo}/Role=NULL\n`
    }`,
  );
  writeFileSync(join(site, `control/processing/job.${id}.status`), 'INLRMS');
}

interface Share {
  ID: string;
  RunningJobs: number;
  WaitingJobs: number;
  SuspendedJobs: number;
  LocalRunningJobs: number;
  LocalWaitingJobs: number;
  FreeSlots: number;
  [key: string]: unknown;
}

/** Runs the provider once. */
function provide(more = '') {
  const configuration = join(site, 'arc.conf');
  writeFileSync(
    configuration,
    `[common]
hostname = localhost
[authgroup:all]
all = yes
[mapping]
map_to_user = all nobody:nogroup
[lrms]
lrms = vmbatch vmalice
pbs_bin_path = ${torque.binPath}
[arex]
controldir = ${site}/control
sessiondir = ${site}/session
[arex/ws]
wsurl = https://localhost:4443/arex
[arex/ws/jobs]
[infosys]
logfile = ${site}/info.log
loglevel = 3
[infosys/glue2]
admindomain_name = TEST
[infosys/cluster]
alias = test
advertisedvo = alice
[queue:vmalice]
${more}
[custom:vmbatch]
image = demo
`,
  );
  const effective = join(site, 'effective.conf');
  execFileSync('/usr/lib/arc/arcconfig-parser', [
    '--config',
    configuration,
    '--runconfig',
    effective,
    '--save',
  ]);
  const location = join(installed, 'location');
  const { status, stdout } = spawnSync(
    '/usr/bin/perl',
    [join(location, 'share/arc/CEinfo.pl'), '--config', effective],
    {
      encoding: 'utf8',
      env: { PATH: '/usr/bin:/bin', ARC_LOCATION: location },
      maxBuffer: 64 * 1024 * 1024,
    },
  );
  expect(status).toBe(0);
  const always = ['ComputingShare', 'ExecutionEnvironment'];
  const document = new XMLParser({ isArray: (name) => always.includes(name) }).parse(stdout);
  const service = document.InfoRoot.Domains.AdminDomain.Services.ComputingService;
  const shares: Share[] = service.ComputingShare;
  const manager = service.ComputingManager;
  return {
    share: (name: string) => {
      const share = shares.find(({ ID }) => ID.endsWith(`:${name}`));
      if (share === undefined) throw new Error(`no share ${name}: ${shares.map(({ ID }) => ID).join(' ')}`);
      return share;
    },
    manager,
    document: stdout,
    environment: manager.ExecutionEnvironments.ExecutionEnvironment[0],
    log: readFileSync(join(site, 'info.log'), 'utf8').split('\n'),
  };
}

/** Lines of the log that our module, ARC's check of its answer, or Perl itself complained in. */
const complaints = (log: readonly string[]) =>
  log.filter((line) =>
    /\[(VMBATCHmod|LRMSInfo|ARC1ClusterInfo)\] \[(WARNING|ERROR|FATAL)\]|PERL:/.test(line),
  );

describe('ComputingShares', () => {
  it.each([0, 1, 50])("have the right figures with %i of the VO's jobs in each state", (count) => {
    const states = ['R', 'Q', 'H', 'S', 'E', 'C'];
    const jobs = states.flatMap((state, index) => manyJobs(count, 1000 * (index + 1), { state }));
    const forgotten = manyJobs(count, 9000, {});
    for (const { id } of [...jobs, ...forgotten]) addGridJob(id, 'alice');
    torque.answer('qstat', { stdout: qstatAnswer(jobs) });

    const { share, log } = provide();

    // What ends is still running, what is held waits, and what has ended or is forgotten is neither.
    const figures = { RunningJobs: 2 * count, WaitingJobs: 2 * count, SuspendedJobs: count };
    expect(share('vmalice_alice')).toMatchObject(figures);
    expect(share('vmalice')).toMatchObject({ ...figures, LocalRunningJobs: 0, LocalWaitingJobs: 0 });
    expect(complaints(log)).toEqual([]);
  });

  it('count foreign jobs of the queue for the queue alone, and those of other queues and VOs not for the VO', () => {
    const ours = [...manyJobs(2, 100, {}), ...manyJobs(3, 200, { state: 'Q' })];
    const cms = manyJobs(4, 300, {});
    const local = [...manyJobs(5, 400, { user: 'bob' }), ...manyJobs(6, 500, { state: 'Q', user: 'bob' })];
    const elsewhere = [
      ...manyJobs(7, 600, { queue: 'other' }),
      ...manyJobs(8, 700, { queue: 'other', state: 'Q' }),
    ];
    for (const { id } of ours) addGridJob(id, 'alice');
    for (const { id } of cms) addGridJob(id, 'cms');
    torque.answer('qstat', { stdout: qstatAnswer([...ours, ...cms, ...local, ...elsewhere]) });

    const { share, manager } = provide();

    expect(share('vmalice_alice')).toMatchObject({ RunningJobs: 2, WaitingJobs: 3, LocalRunningJobs: 0 });
    expect(share('vmalice')).toMatchObject({
      ...{ RunningJobs: 2 + 4 + 5, WaitingJobs: 3 + 6 },
      ...{ LocalRunningJobs: 5, LocalWaitingJobs: 6 },
    });
    // All slots are those of the nodes, and so are all that are in use.
    expect(manager).toMatchObject({
      ...{ TotalSlots: 200, SlotsUsedByGridJobs: 2 + 4, SlotsUsedByLocalJobs: 5 + 7 },
    });
  });

  it('count a job of several slots once for the VO', () => {
    const jobs = [{ id: '1.vm', hosts: 'n1/0-7', nodes: '1:ppn=8' }];
    addGridJob('1.vm', 'alice');
    torque.answer('qstat', { stdout: qstatAnswer(jobs) });
    torque.answer('pbsnodes', { stdout: pbsnodesAnswer([{ name: 'n1', slots: 16, jobs: '0-7/1.vm' }]) });

    const { share } = provide();

    expect(share('vmalice_alice')).toMatchObject({ RunningJobs: 1, FreeSlots: 8, MaxWallTime: 86_400 });
    expect(share('vmalice')).toMatchObject({ RunningJobs: 1, LocalRunningJobs: 0, FreeSlots: 8 });
  });

  it('count own jobs of several slots once beside the CPUs of the others', () => {
    const jobs = [
      { id: '1.vm', hosts: 'n1/0-7' },
      { id: '2.vm', hosts: 'n1/8-11' },
      { id: '3.vm', hosts: 'n1/12-14', user: 'bob' },
    ];
    addGridJob('1.vm', 'alice');
    addGridJob('2.vm', undefined);
    torque.answer('qstat', { stdout: qstatAnswer(jobs) });
    torque.answer('pbsnodes', { stdout: pbsnodesAnswer([{ name: 'n1', slots: 16, jobs: '0-14/1.vm' }]) });

    const { share } = provide();

    expect(share('vmalice')).toMatchObject({ RunningJobs: 2 + 3, LocalRunningJobs: 3, FreeSlots: 1 });
  });

  it.each(['', 'pbs_queue_node = ppn=4:ib'])(
    'say that no job can run when all nodes are offline, and that none is the memory of a guest: %s',
    (more) => {
      addGridJob('1.vm', 'alice');
      const used =
        '<resources_used><cput>00:10:00</cput><mem>190000kb</mem><walltime>00:20:00</walltime></resources_used>';
      torque.answer('qstat', { stdout: qstatAnswer([{ id: '1.vm', more: used }]) });
      torque.answer('pbsnodes', {
        stdout: pbsnodesAnswer([
          { name: 'n1', state: 'offline', properties: 'ib' },
          { name: 'n2', state: 'down', properties: 'ib' },
        ]),
      });
      const { share, manager, document } = provide(more);
      expect(share('vmalice')).toMatchObject({ MaxRunningJobs: 0, FreeSlots: 0, RunningJobs: 1 });
      expect(manager).toMatchObject({ TotalSlots: 0 });
      expect(document).not.toMatch(/UsedMainMemory|UsedTotalCPUTime/);
    },
  );

  it("have the nodes of arc.conf's own example of a node request", () => {
    torque.answer('pbsnodes', {
      stdout: pbsnodesAnswer([
        { name: 'n1', slots: 8, properties: 'ib' },
        { name: 'n2', slots: 8, properties: 'ib,fat' },
        { name: 'n3', slots: 8, properties: 'fat' },
      ]),
    });
    const { share, manager } = provide('pbs_queue_node = ppn=4:ib');
    expect(manager).toMatchObject({ TotalSlots: 16 });
    expect(share('vmalice')).toMatchObject({ MaxRunningJobs: 16, FreeSlots: 16 });
  });

  it('take a job that submit refused for gone, and one without an id for waiting', () => {
    addGridJob('refused.GRID1', 'alice');
    addGridJob('UNDEFINEDVALUE', 'alice');
    expect(provide().share('vmalice_alice')).toMatchObject({ RunningJobs: 0, WaitingJobs: 1 });
  });
});

describe('the ExecutionEnvironment', () => {
  it('is a virtual machine on the nodes of the queue, and the share names the image', () => {
    const { environment, share } = provide();
    expect(environment).toMatchObject({
      ...{ VirtualMachine: true, Platform: 'amd64', OSFamily: 'linux' },
      ...{ TotalInstances: 2, UsedInstances: 0, UnavailableInstances: 1 },
      ...{ MainMemorySize: 2048 },
    });
    expect(share('vmalice')['Description']).toBe('Jobs run in virtual machines of the image demo');
  });

  it('leaves the sum of all CPUs to the slots, where no node counts twice for serving two queues', () => {
    expect(provide('[queue:other]').manager).toMatchObject({ TotalLogicalCPUs: 200, TotalSlots: 200 });
  });

  it("keeps the administrator's own description", () => {
    expect(provide('comment = for our group').share('vmalice')['Description']).toBe('for our group');
  });
});

describe('with TORQUE down', () => {
  it('the document is made, its jobs wait, and the log says why', () => {
    const down = { exitCode: 111, stderr: 'cannot connect to server vm (errno=111) Connection refused\n' };
    for (const program of ['qstat', 'qstat-Q', 'qstat-B', 'pbsnodes'] as const) torque.answer(program, down);
    addGridJob('1.vm', 'alice');

    const { share, log } = provide();

    expect(share('vmalice_alice')).toMatchObject({ RunningJobs: 0, WaitingJobs: 1, FreeSlots: 0 });
    const said = complaints(log);
    expect(said.length).toBeGreaterThan(0);
    for (const line of said) expect(line).toContain('[VMBATCHmod] [WARNING]');
    expect(said.join('\n')).toContain('the batch server does not answer');
  });
});

describe("ARC's own check of the answer", () => {
  it.each([
    ['of a program that works', '1'],
    ['of one that does not', '$VMBATCHmod::deadline = 0'],
  ])('finds nothing missing in that %s', (_, setup) => {
    torque.answer('qstat', { stdout: qstatAnswer([{ id: '1.vm' }]) });
    writeFileSync(
      join(site, 'arc.conf'),
      `[lrms]\nlrms=vmbatch vmalice\npbs_bin_path=${torque.binPath}\n[queue:vmalice]\n`,
    );
    const perl = `use lib '${join(installed, 'location/share/arc')}'; use LRMSInfo; use VMBATCHmod; ${setup};
      { package CEInfo; our $configfile = '${site}/arc.conf'; }
      LRMSInfo::collect({ lrms => 'vmbatch', defaultqueue => 'vmalice', loglevel => 'WARNING', controldir => '/c',
        jobs => ['1.vm', '2.vm'], queues => { vmalice => { users => ['alice'] }, gone => { users => [] } } });`;
    const { status, stderr } = spawnSync('/usr/bin/perl', ['-w', '-e', perl], {
      encoding: 'utf8',
      env: { PATH: '/usr/bin:/bin' },
    });
    expect(status).toBe(0);
    const lines = stderr.split('\n').filter((line) => !line.includes('[VMBATCHmod] [WARNING]'));
    expect(lines).toEqual(['']);
  });
});
