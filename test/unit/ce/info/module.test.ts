// VMBATCHmod.pm in a bare Perl: what it asks the program for, what it makes of the answer, and that nothing
// makes it die.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const MODULE = new URL('../../../../arc-backend/VMBATCHmod.pm', import.meta.url).pathname;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vmbatch-module-'));
  // By itself, so that it finds no program beside it.
  mkdirSync(join(directory, 'backend'));
  copyFileSync(MODULE, join(directory, 'backend/VMBATCHmod.pm'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** A vmbatch program in sh. */
function install(script: string): void {
  writeFileSync(join(directory, 'vmbatch'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

/** One that keeps its request and gives a prepared answer. */
function answer(text: string): void {
  writeFileSync(join(directory, 'answer'), text);
  install(`echo "$*" "$NODE_OPTIONS" > ${directory}/arguments
cat > ${directory}/request
cat ${directory}/answer`);
}

const OPTIONS = `{ lrms => 'vmbatch', jobs => ['67.vm', '999.vm', 'refused.G1', 'UNDEFINEDVALUE'],
  queues => { vmalice => { users => ['alice'], totalcpus => '8', MappingQueue => 'vmalice' }, gone => { users => ['bob'] } } }`;

/** Calls the module with warnings on, as CEinfo.pl does; `setup` is Perl that runs before. */
function collect({ options = OPTIONS, setup = '' } = {}) {
  const perl = `use VMBATCHmod qw(get_lrms_info get_lrms_options_schema); use JSON::PP;
    { package CEInfo; our ($configfile, $config); $configfile = '/run/arex.cfg'; }
    $VMBATCHmod::vmbatch = '${directory}/vmbatch';
    our $options = ${options}; ${setup};
    get_lrms_options_schema(); my $info = get_lrms_info($options);
    print JSON::PP->new->canonical->encode({ info => $info, options => $options, config => $CEInfo::config });`;
  const { status, stdout, stderr } = spawnSync(
    '/usr/bin/perl',
    ['-w', `-I${directory}/backend`, '-e', perl],
    {
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
      env: { PATH: '/usr/bin:/bin', NODE_OPTIONS: '--inspect' },
    },
  );
  expect({ status, stderr: status === 0 ? '' : stderr }).toEqual({ status: 0, stderr: '' });
  const { info, options: after, config } = JSON.parse(stdout);
  return { info, options: after, config, stderr: stderr.replaceAll(directory, '') };
}

/** Not one that is gone, nor one whose end nobody has asked for yet. */
function runs(pid: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8') !== '';
  } catch {
    return false;
  }
}

const ANSWER = {
  cluster: { lrms_type: 'torque', lrms_version: '6.1', totalcpus: 4, runningjobs: 1 },
  queues: { vmalice: { status: 1, running: 2, users: { alice: { freecpus: { 2: 60 }, queuelength: 5 } } } },
  jobs: { '67.vm': { status: 'R', cpus: 2, nodes: ['vm'], comment: [] } },
  nodes: { vm: { isavailable: 1, isfree: 1 } },
  images: { vmalice: ['sl7', 'el9'] },
  problems: [],
  warnings: [],
  notes: [],
};

it('asks the program once, on its stdin, for what it was asked itself', () => {
  answer(JSON.stringify(ANSWER));
  collect();
  expect(readFileSync(join(directory, 'arguments'), 'utf8')).toBe('info --config /run/arex.cfg --request \n');
  expect(JSON.parse(readFileSync(join(directory, 'request'), 'utf8'))).toEqual({
    queues: { vmalice: { users: ['alice'], totalcpus: '8' }, gone: { users: ['bob'] } },
    jobs: ['67.vm', '999.vm', 'refused.G1', 'UNDEFINEDVALUE'],
  });
});

it('hands the answer on, and fills in the queues and jobs that it does not have', () => {
  answer(JSON.stringify(ANSWER));
  const { info, stderr } = collect();
  expect(stderr).toBe('');
  expect(info.cluster).toMatchObject({ ...ANSWER.cluster, lrms_glue_type: 'torque', usedcpus: 0 });
  expect(info.nodes).toEqual(ANSWER.nodes);
  expect(info.queues).toEqual({
    vmalice: { ...ANSWER.queues.vmalice, maxrunning: 0, queued: 0, totalcpus: 0, nodes: [] },
    gone: {
      ...{ status: -1, maxrunning: 0, running: 0, queued: 0, totalcpus: 0, nodes: [] },
      users: { bob: { freecpus: { 0: 0 }, queuelength: 0 } },
    },
  });
  expect(info.jobs['67.vm']).toEqual(ANSWER.jobs['67.vm']);
  expect(info.jobs['999.vm']).toEqual({ status: 'EXECUTED', cpus: 1, nodes: [], comment: [] });
  expect(info.jobs['refused.G1'].status).toBe('EXECUTED');
  expect(info.jobs.UNDEFINEDVALUE.status).toBe('Q');
});

it('does not take jobs for gone when TORQUE did not answer, and says why to the log', () => {
  answer(JSON.stringify({ ...ANSWER, jobs: {}, problems: ['the server is down'] }));
  const { info, stderr } = collect();
  expect(stderr).toBe('VMBATCHmod: vmbatch info: the server is down\n');
  expect(info.jobs['67.vm'].status).toBe('Q');
  expect(info.jobs['refused.G1'].status).toBe('EXECUTED');
});

it('hands warnings to the log, and still knows that a job is gone', () => {
  answer(JSON.stringify({ ...ANSWER, warnings: ['ignored: conf:5: imäges'], notes: ['1 node is down'] }));
  const { info, stderr } = collect();
  expect(stderr).toBe('VMBATCHmod: vmbatch info: ignored: conf:5: imäges\n');
  expect(info.jobs['999.vm'].status).toBe('EXECUTED');
});

it('reads an answer that is larger than any pipe, from a program that does not read its request', () => {
  const jobs = Object.fromEntries(
    Array.from({ length: 20_000 }, (_, index) => [`${index}.vm`, { status: 'R', comment: ['x'.repeat(60)] }]),
  );
  writeFileSync(join(directory, 'answer'), JSON.stringify({ ...ANSWER, jobs }));
  install(`cat ${directory}/answer`);
  const { info, stderr } = collect({
    setup: `$options->{jobs} = [ map { "$_.vm" } 0 .. 19999 ]`,
  });
  expect(stderr).toBe('');
  expect(info.jobs['19999.vm']).toEqual(jobs['19999.vm']);
});

describe('gives a valid structure and the reason when', () => {
  it.each([
    ['the program is not there', undefined, 'there is no vmbatch program'],
    ['it cannot be started', '#', 'vmbatch exited with'],
    ['it prints nothing', 'true', 'malformed JSON'],
    ['it prints no JSON', 'echo Segmentation fault', 'malformed JSON'],
    ['it prints something else', 'echo "[1]"', 'no JSON object'],
    ['it fails and says why', 'echo one >&2; echo two >&2; exit 4', 'vmbatch exited with 4: two'],
    ['it dies of a signal', 'kill -9 $$', 'vmbatch died of signal 9'],
    [
      'it prints odd values',
      `echo '{"queues":[],"jobs":7,"nodes":null,"cluster":"x","problems":"y","warnings":[{}],"images":3}'`,
      undefined,
    ],
  ])('%s', (_, script, reason) => {
    if (script === '#') writeFileSync(join(directory, 'vmbatch'), '#!/nowhere\n', { mode: 0o755 });
    else if (script !== undefined) install(script);
    const { info, stderr } = collect();
    expect(info.cluster).toMatchObject({ lrms_type: 'torque', totalcpus: 0 });
    expect(Object.keys(info.queues).sort()).toEqual(['gone', 'vmalice']);
    expect(info.queues.vmalice.users).toEqual({ alice: { freecpus: { 0: 0 }, queuelength: 0 } });
    expect(info.jobs['67.vm'].status).toBe('Q');
    if (reason === undefined) expect(stderr).toBe('');
    else expect(stderr).toMatch(/^VMBATCHmod: vmbatch info: .*\n$/);
    expect(stderr).toContain(reason ?? '');
  });

  it('it does not answer in time, and ends it with all that it started', async () => {
    install(
      `trap '' TERM\necho $$ > ${directory}/pid\nsleep 1000 &\necho $! >> ${directory}/pid\necho '{'\nwait`,
    );
    const { info, stderr } = collect({ setup: '$VMBATCHmod::deadline = 0.5' });
    expect(stderr).toBe('VMBATCHmod: vmbatch info: /vmbatch did not answer within 0.5 s\n');
    expect(info.jobs['67.vm'].status).toBe('Q');
    for (const pid of readFileSync(join(directory, 'pid'), 'utf8').trim().split('\n'))
      await expect.poll(() => runs(pid)).toBe(false);
  });

  it.each(['undef', '{}', "{ queues => [], jobs => 'x' }", '{ queues => { a => undef }, jobs => [undef] }'])(
    'its options are %s',
    (options) => {
      answer(JSON.stringify(ANSWER));
      const { info, stderr } = collect({ options });
      expect(stderr).toBe('');
      expect(info.cluster).toMatchObject({ totalcpus: 4 });
      expect(info.jobs).toEqual({});
    },
  );

  it('it fails while somebody else ignores the ends of children', () => {
    writeFileSync(join(directory, 'answer'), JSON.stringify(ANSWER));
    install(`cat ${directory}/answer; exit 4`);
    const { info, stderr } = collect({ setup: `$SIG{CHLD} = 'IGNORE'` });
    expect(stderr).toBe('VMBATCHmod: vmbatch info: /vmbatch exited with 4\n');
    expect(info.queues.vmalice.running).toBe(0);
  });
});

describe('what ARC publishes of the guests', () => {
  const setup = `$CEInfo::config = { xenvs => { vmalice => {}, gone => { VirtualMachine => 0 } } }`;

  it('is that they are virtual machines, and their images', () => {
    answer(JSON.stringify(ANSWER));
    const { options, config, stderr } = collect({ setup });
    expect(config.xenvs.vmalice).toEqual({ VirtualMachine: 1 });
    expect(options.queues.vmalice.Description).toBe('Jobs run in virtual machines of the image sl7 or el9');
    expect(options.queues.gone.Description).toBe('Jobs run in virtual machines');
    expect(stderr).toBe('');
  });

  it('is left as the administrator has it', () => {
    answer(JSON.stringify(ANSWER));
    const { options, config } = collect({
      setup: `${setup}; $options->{queues}{vmalice}{Description} = 'ours'`,
    });
    expect(config.xenvs.gone).toEqual({ VirtualMachine: 0 });
    expect(options.queues.vmalice.Description).toBe('ours');
  });
});
