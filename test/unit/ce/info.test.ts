import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { information } from '../../../src/ce/info.ts';
import { torqueAt } from '../../../src/torque/commands.ts';
import { type FakeTorque, fakeTorque } from './fake-torque.ts';

const BACKEND = new URL('../../../arc-backend/', import.meta.url).pathname;
const fixture = (name: string) =>
  readFileSync(new URL(`../../fixtures/torque/${name}`, import.meta.url), 'utf8');

let torque: FakeTorque;
beforeEach(() => {
  torque = fakeTorque();
});
afterEach(() => torque.remove());

function answerAsRecorded(): void {
  torque.answer('qstat', { stdout: fixture('qstat-x.mixed.xml') });
  torque.answer('qstat-Q', { stdout: fixture('qstat-Q-f.txt') });
  torque.answer('pbsnodes', { stdout: fixture('pbsnodes-x.one-running.xml') });
}

describe('information', () => {
  it('describes the recorded site as the golden file has it', async () => {
    answerAsRecorded();
    const info = await information(torqueAt(torque.binPath));
    await expect(`${JSON.stringify(info, null, 2)}\n`).toMatchFileSnapshot(
      new URL('../../golden/ce/info.json', import.meta.url).pathname,
    );
    expect(torque.calls()).toHaveLength(3);
  });

  it('is an empty document with the reasons when TORQUE does not answer', async () => {
    for (const program of ['qstat', 'qstat-Q', 'pbsnodes'] as const)
      torque.answer(program, { exitCode: 111, stderr: 'cannot connect to server vm\n' });
    const info = await information(torqueAt(torque.binPath));
    expect(info.cluster).toMatchObject({ totalcpus: 0, runningjobs: 0 });
    expect(info).toMatchObject({ queues: {}, jobs: {}, nodes: {} });
    expect(info.problems).toHaveLength(3);
    expect(info.problems[0]).toContain('the batch server does not answer');
  });

  it('counts no free slots of a node that is offline', async () => {
    answerAsRecorded();
    torque.answer('pbsnodes', { stdout: fixture('pbsnodes-x.offline.xml') });
    const info = await information(torqueAt(torque.binPath));
    expect(info.cluster.totalcpus).toBe(0);
    expect(info.nodes['vm']).toMatchObject({ isavailable: 0, isfree: 0, slots: 4 });
    expect(info.queues['vmalice']?.freecpus).toBe(0);
  });
});

describe('VMBATCHmod.pm', () => {
  const OPTIONS = `{ lrms => 'vmbatch', jobs => ['67.vm', '70.vm', '999.vm'], queues => { vmalice => { users => ['alice'] }, gone => { users => ['bob'] } } }`;

  /** What the provider would get, with a vmbatch program that prints `answer`. */
  function collect(answer: string | undefined) {
    const program = join(torque.directory, 'vmbatch');
    if (answer !== undefined) {
      writeFileSync(join(torque.directory, 'answer'), answer);
      writeFileSync(
        program,
        `#!/bin/sh\necho "$*" > ${torque.directory}/arguments\ncat ${torque.directory}/answer\n`,
        {
          mode: 0o755,
        },
      );
    }
    const perl = `use VMBATCHmod qw(get_lrms_info get_lrms_options_schema); use JSON::PP;
      our $configfile; $CEInfo::configfile = '/run/arex.cfg'; $VMBATCHmod::vmbatch = '${program}';
      get_lrms_options_schema(); print JSON::PP->new->canonical->encode(get_lrms_info(${OPTIONS}));`;
    const { status, stdout, stderr } = spawnSync('/usr/bin/perl', [`-I${BACKEND}`, '-e', perl], {
      encoding: 'utf8',
    });
    expect(status).toBe(0);
    return { info: JSON.parse(stdout), stderr };
  }

  it("adds users, the queues asked for, and jobs that are gone, to vmbatch's answer", async () => {
    answerAsRecorded();
    const { info, stderr } = collect(JSON.stringify(await information(torqueAt(torque.binPath))));
    expect(stderr).toBe('');
    expect(readFileSync(join(torque.directory, 'arguments'), 'utf8')).toBe('info --config /run/arex.cfg\n');
    expect(info.cluster).toMatchObject({
      lrms_type: 'torque',
      totalcpus: 4,
      usedcpus: 2,
      runningjobs: 1,
      queuedjobs: 2,
    });
    expect(info.queues.vmalice).toMatchObject({ status: 1, running: 2, queued: 2, nodes: ['vm'] });
    expect(info.queues.vmalice.users).toEqual({ alice: { freecpus: { 2: 0 }, queuelength: 2 } });
    expect(info.queues.vmalice.freecpus).toBeUndefined();
    expect(info.queues.gone).toMatchObject({
      status: -1,
      running: 0,
      users: { bob: { freecpus: {}, queuelength: 0 } },
    });
    expect(Object.keys(info.jobs)).toEqual(['67.vm', '70.vm', '999.vm']);
    expect(info.jobs['67.vm']).toMatchObject({ status: 'R', cpus: 2, nodes: ['vm'] });
    expect(info.jobs['70.vm']).toMatchObject({ status: 'Q', rank: 1 });
    expect(info.jobs['999.vm'].status).toBe('EXECUTED');
  });

  it('hands a warning to the log and still knows that a job is gone', async () => {
    answerAsRecorded();
    const answer = {
      ...(await information(torqueAt(torque.binPath))),
      warnings: ['ignored: conf:5: images'],
    };
    const { info, stderr } = collect(JSON.stringify(answer));
    expect(stderr).toBe('VMBATCHmod: vmbatch info: ignored: conf:5: images\n');
    expect(info.jobs['999.vm'].status).toBe('EXECUTED');
  });

  it.each([
    ['the program is not there', undefined],
    ['it prints nothing', ''],
    ['it prints no JSON', 'Segmentation fault'],
    ['it prints something else', '[1]'],
    ['it prints odd values', '{"queues":[],"jobs":7,"nodes":null,"cluster":"x","problems":"y"}'],
  ])('gives a valid structure when %s', (_, answer) => {
    const { info, stderr } = collect(answer);
    expect(info.cluster).toMatchObject({ lrms_type: 'torque', totalcpus: 0 });
    expect(Object.keys(info.queues).sort()).toEqual(['gone', 'vmalice']);
    expect(info.jobs['67.vm'].status).not.toBe('EXECUTED');
    if (!answer?.startsWith('{')) expect(stderr).toContain('vmbatch info: ');
  });
});

describe('the files for ARC', () => {
  it.each(['submit', 'scan', 'cancel'])(
    '%s-vmbatch-job starts the program beside it, through links, from anywhere',
    (name) => {
      const site = join(torque.directory, 'a b');
      mkdirSync(join(site, 'dist'), { recursive: true });
      mkdirSync(join(site, 'arc-backend'));
      const file = join(site, 'arc-backend', `${name}-vmbatch-job`);
      writeFileSync(join(site, 'dist', 'vmbatch'), '#!/bin/sh\nprintf "%s\\n" "$@" "$NODE_OPTIONS"\n', {
        mode: 0o755,
      });
      writeFileSync(file, readFileSync(`${BACKEND}${name}-vmbatch-job`), { mode: 0o755 });
      const link = join(torque.directory, `${name}-vmbatch-job`);
      execFileSync('ln', ['-s', file, link]);
      for (const path of [file, link, `./${name}-vmbatch-job`]) {
        const said = execFileSync(path, ['--config', 'C', 'a b'], {
          cwd: torque.directory,
          env: { PATH: '/usr/bin:/bin', NODE_OPTIONS: '--inspect' },
        });
        expect(said.toString()).toBe(`${name}\n--config\nC\na b\n\n`);
      }
    },
  );

  it.each(['submit', 'scan', 'cancel'])('%s-vmbatch-job says what to do when there is no program', (name) => {
    const file = join(torque.directory, `${name}-vmbatch-job`);
    writeFileSync(file, readFileSync(`${BACKEND}${name}-vmbatch-job`), { mode: 0o755 });
    const { status, stderr } = spawnSync(file, [], { encoding: 'utf8' });
    expect(status).toBe(4);
    expect(stderr).toContain(`${name}-vmbatch-job finds no vmbatch program`);
    expect(stderr).toContain('what to do: install vmbatch');
  });
});
