// Grid jobs through a real A-REX: submitted with arcsub, run in guests, fetched with arcget. One A-REX and
// one site serve all tests; independent jobs are submitted together. Most guests are fake ones, which the
// guest service takes for machines; the queue vmdemo has the real demo guest.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Arex, batchJobsOf, startArex } from '../arex/arex.ts';
import { watchEnds } from '../arex/ends.ts';
import { audit } from '../site/audit.ts';
import { holdGuests, holdQsub } from '../site/holds.ts';
import { type Site, startSite } from '../site/site.ts';

const NOTHING = { domains: 0, disks: 0, isos: 0, leases: 0, locks: 0, keys: 0, processes: 0 };
const JOBS = new URL('../arex/jobs/', import.meta.url).pathname;
const JOB_MS = 120_000;

let site: Site;
let arex: Arex;
let ends: ReturnType<typeof watchEnds>;

beforeAll(async () => {
  site = await startSite({
    directory: `/var/tmp/vmbatch-arex-${process.pid}`,
    account: 'vmbatch-test',
    dist: new URL('../../dist', import.meta.url).pathname,
    onStage: () => undefined,
    guests: 'both',
    queues: ['second', 'vmdemo'],
    slots: 8,
  });
  arex = await startArex(site, {
    queues: ['second', 'vmdemo'],
    queueOptions: ['defaultmemory = 350'],
    blocks: '[custom:vmbatch]\nimage = fake\nmemory_overhead = 64 MiB\nqueue = vmdemo image=demo\n',
    rteDirectories: [new URL('../arex/rte', import.meta.url).pathname],
  });
  ends = watchEnds(arex, site);
}, 300_000);

afterAll(async () => {
  ends?.close();
  await arex?.stop();
  const left = await audit(site);
  expect(await site?.stop()).toEqual([]);
  expect(left).toEqual(NOTHING);
}, 90_000);

/** Writes a job description to submit. */
function description(name: string, text: string): string {
  const directory = join(site.directory, 'jobs');
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `${name}.xrsl`);
  writeFileSync(
    path,
    `& (jobName = "${name}") (stdout = "std.out") (stderr = "std.err") (gmlog = "gmlog") ${text}\n`,
  );
  return path;
}

const shell = (script: string) =>
  `(executable = "/bin/sh") (arguments = "-c" "${script.replaceAll('"', '""')}")`;

async function submit(name: string, text: string): Promise<string> {
  const [id = ''] = await arex.submit(description(name, text));
  return id;
}

async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + JOB_MS - 20_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await sleep(50);
  }
}

/** All files below a directory with their contents. */
function contents(directory: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path): [string, string] => [path.slice(directory.length + 1), readFileSync(path, 'utf8')])
      .sort(([one], [other]) => (one < other ? -1 : 1)),
  );
}

const ownBootId = () => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8');

describe('a job described by its user', () => {
  const FILES = [
    ...['hello.xrsl', 'hello.adl', 'fail.xrsl', 'jalien.xrsl', 'tricky.xrsl', 'full.xrsl', 'full.adl'],
    ...['multi-slot.xrsl', 'stages.xrsl', 'no-memory.xrsl', 'demo-guest.xrsl', 'demo-guest-fail.xrsl'],
  ] as const;
  type File = (typeof FILES)[number];
  const ids = new Map<File, string>();
  const reasons = new Map<File, string>();
  const outputs = new Map<File, Record<string, string>>();

  /** The job of a file after its end. */
  function job(file: File) {
    const id = ids.get(file) ?? '';
    return {
      id,
      reason: reasons.get(file),
      outputs: outputs.get(file) ?? {},
      diag: arex.diag(id),
      errors: arex.errors(id),
      accounting: () => arex.accounting(id),
    };
  }

  beforeAll(async () => {
    const submitted = await arex.submit(...FILES.map((file) => join(JOBS, file)));
    expect(submitted).toHaveLength(FILES.length);
    for (const [index, file] of FILES.entries()) ids.set(file, submitted[index] ?? '');
    for (const [file, id] of ids) reasons.set(file, await arex.end(id));
    const fetched = await arex.get(...submitted);
    for (const [index, file] of FILES.entries()) outputs.set(file, contents(fetched[index] ?? ''));
  }, 180_000);

  it.each(['hello.xrsl', 'hello.adl'] as const)('%s gets its files there and back', async (file) => {
    const { id, reason, outputs, diag, accounting } = job(file);
    expect(reason).toBe('');
    const { 'machine.txt': machine, ...rest } = outputs;
    expect(rest).toEqual({
      'std.out': `hello from ${site.account.name} in ${id}\narg: one\narg: two words\n`,
      'std.err': 'to stderr\n',
      'result.txt': `result of ${id}\n`,
    });
    if (file === 'hello.xrsl') expect(machine).not.toBe(ownBootId());
    const slots = file === 'hello.adl' ? 2 : 1;
    expect(diag.get('exitcode')).toEqual(['0']);
    expect(diag.get('nodename')).toHaveLength(slots);
    expect(new Set(diag.get('nodename')).size).toBe(1);
    expect(diag.get('processors')).toEqual([String(slots)]);
    expect(diag.get('systemsoftware')).toEqual(['vmbatch fake guest']);
    expect(await accounting()).toMatchObject({
      exitCode: 0,
      queue: 'vmalice',
      localId: arex.localId(id),
      properties: {
        jobname: file.replace('.xrsl', '').replace('.', '-'),
        lrms: 'vmbatch',
        systemsoftware: 'vmbatch fake guest',
      },
      cpus: `${slots} on 1 node(s)`,
    });
  });

  it('that exits with 7 fails with its own exit code, its output is there, and the log says so', async () => {
    const { reason, outputs, diag, errors, accounting } = job('fail.xrsl');
    expect(reason).toMatch(/^LRMS error: \(7\) /);
    expect(outputs).toEqual({ 'std.err': 'going to fail\n', 'std.out': '' });
    expect(diag.get('exitcode')).toEqual(['7']);
    expect((await accounting()).exitCode).toBe(7);
    expect(errors).toMatch(/^vmbatch: batch job \S+ submitted$/m);
    expect(errors).toMatch(/INLRMS -> FINISHING +Reason: Job failure detected/);
  });

  it('in the shape of JAliEn gets environment, input and the output of /usr/bin/time', async () => {
    const { id, reason, outputs, accounting } = job('jalien.xrsl');
    expect(reason).toBe('');
    expect(Object.keys(outputs)).toEqual(['JAliEn-1700000000000-0.sh', 'std.err', 'std.out']);
    expect(outputs['std.out']).toMatch(/^agent would contact localhost:10000\n/);
    expect(outputs['std.out']).toContain(`uid=${site.account.uid}(${site.account.name})`);
    expect(outputs['std.out']).toContain(`/${id}\n`);
    expect(outputs['std.err']).toMatch(/elapsed/);
    expect(outputs['JAliEn-1700000000000-0.sh']).toBe(readFileSync(join(JOBS, 'jalien-startup.sh'), 'utf8'));
    expect((await accounting()).exitCode).toBe(0);
  });

  it('gets arguments and environment with any character in them, and only its outputs are kept', () => {
    const { id, reason, outputs } = job('tricky.xrsl');
    expect(reason).toBe('');
    const words = [
      ...[
        'plain',
        'two words',
        "it's",
        'double"quote',
        '$HOME',
        'back\\slash',
        'ünï–日本',
        '',
        '-n',
        '`id`',
        '*',
      ],
      ...['a;b&c|d', 'tab\tx', 'trailing ', '!bang', '%d%%'],
    ];
    expect(outputs).toEqual({
      'logs/std out.txt': [
        `directory ${id}`,
        `home ${id}`,
        'umask 0077',
        ...words.map((word) => `<${word}>`),
        ...['PLAIN=<x>', 'SPACE=<two words>', "QUOTE=<it's>", 'DQ=<say "hi">', 'DOLLAR=<$HOME/x>'],
        ...['BSL=<a\\b>', 'UTF=<é>', 'EMPTY=<>'],
        'stdin data from the user\n',
      ].join('\n'),
      'std.err': '',
      'out put.dat': 'spaced\n',
      'dir/one.txt': 'in a directory\n',
    });
  });

  it.each([
    ['full.xrsl', ['a'], 'PLAIN=<1>', '0'],
    ['full.adl', ['main arg'], `GREETING=<'q' "d" \\b $x>`, '7'],
  ] as const)('%s with every key there is runs as described', async (file, words, variable, exitCode) => {
    const { id, reason, outputs, diag, accounting } = job(file);
    expect(reason).toBe('');
    expect(outputs['std.out']).toBe(
      [
        ...[`directory ${id}`, `home ${id}`, 'umask 0077', ...words.map((word) => `<${word}>`)],
        ...[variable, 'stdin \n'],
      ].join('\n'),
    );
    // The whole session directory was asked for.
    expect(Object.keys(outputs)).toEqual(expect.arrayContaining(['dir/one.txt', 'out put.dat', 'rest.txt']));
    expect(diag.get('exitcode')).toEqual([exitCode]);
    expect(diag.get('nodename')).toHaveLength(4);
    expect(await accounting()).toMatchObject({
      exitCode: Number(exitCode),
      queue: 'second',
      cpus: '4 on 1 node(s)',
      runtimeEnvironments: file === 'full.xrsl' ? ['ENV/PROXY'] : [],
    });
    const batchJob = await qstat(arex.localId(id) ?? '');
    expect(batchJob).toMatchObject({
      queue: 'second',
      'Resource_List.nodes': expect.stringMatching(/^1:ppn=4/),
      'Resource_List.mem': '1200mb',
      'Resource_List.walltime': '01:00:00',
      'Resource_List.cput': '02:00:00',
    });
  });

  it('with several slots gets a guest with as many processors, all on one node', async () => {
    const { id, reason, diag, accounting } = job('multi-slot.xrsl');
    expect(reason).toBe('');
    expect(guestOf(arex.localId(id) ?? '')).toMatchObject({
      request: { vcpus: 3, memoryBytes: (600 + 64) << 20 },
    });
    expect(diag.get('nodename')).toHaveLength(3);
    expect((await accounting()).cpus).toBe('3 on 1 node(s)');
  });

  it('with a runtime environment runs its stages: 0 on the CE, 1 before it and 2 after it in the guest', async () => {
    const { id, reason, outputs, diag, accounting } = job('stages.xrsl');
    expect(reason).toBe('');
    expect(outputs['std.out']).toContain('<from stage 0>\n');
    expect(outputs['std.out']).toContain("GREETING=<stage 1 with <opt 1> <o'2>>\n");
    const { guest } = guestOf(arex.localId(id) ?? '');
    expect(outputs['stage-two.txt']).toBe(`stage 2 with <opt 1> <o'2> on ${guest.bootId}\n`);
    expect(diag.get('runtimeenvironments')).toEqual(['TEST/STAGES;']);
    expect((await accounting()).runtimeEnvironments).toEqual(['TEST/STAGES']);
  });

  it("without a memory request gets its queue's default", async () => {
    const { id, reason, outputs } = job('no-memory.xrsl');
    expect(reason).toBe('');
    expect(outputs['std.out']).toMatch(new RegExp(`^MemTotal: +${(350 + 64) * 1024} kB\n$`));
    expect((await qstat(arex.localId(id) ?? ''))['Resource_List.mem']).toBe('350mb');
  });

  it('runs in the real demo guest as well', async () => {
    const { id, reason, outputs, diag } = job('demo-guest.xrsl');
    expect(reason).toBe('');
    const { guest, request } = guestOf(arex.localId(id) ?? '');
    expect(request.image).toBe('demo');
    expect(outputs).toEqual({
      'std.out': `hello from ${site.account.name} in ${id}\narg: one\narg: two words\n`,
      'std.err': 'to stderr\n',
      'result.txt': `result of ${id}\n`,
      'machine.txt': `${guest.bootId}\n`,
    });
    // The node's, as ARC has it: it is the node that was used.
    expect(diag.get('nodename')).toEqual(['vmbatch-node']);
    expect(diag.get('systemsoftware')).toEqual([guest.system]);
    const failed = job('demo-guest-fail.xrsl');
    expect(failed.reason).toMatch(/^LRMS error: \(9\) /);
    expect(failed.outputs['std.err']).toBe('going to fail\n');
    expect((await failed.accounting()).exitCode).toBe(9);
  });
});

describe('a job that its user cancels', () => {
  const CANCELLED = /Job is canceled by external request/;

  it(
    'while its input is fetched never reaches the batch system',
    async () => {
      const requests: string[] = [];
      let given = false;
      // Lets A-REX wait until the job is cancelled.
      const slow: Server = createServer((request, response) => {
        requests.push(request.url ?? '');
        if (given) response.writeHead(404).end();
      });
      await new Promise<void>((resolve) => slow.listen(0, '127.0.0.1', resolve));
      const { port } = slow.address() as { port: number };
      try {
        const id = await submit(
          'cancelled-preparing',
          `${shell('echo hello')} (inputFiles = ("slow.dat" "http://127.0.0.1:${port}/slow.dat"))`,
        );
        await arex.waitFor(id, 'PREPARING');
        await until(() => requests.length > 0, 'the transfer');
        expect((await arex.kill(id)).exitCode).toBe(0);
        given = true;
        slow.closeAllConnections();
        expect(await arex.end(id)).toMatch(CANCELLED);
        expect(batchJobsOf(site, id)).toEqual([]);
      } finally {
        slow.closeAllConnections();
        slow.close();
      }
    },
    JOB_MS,
  );

  it(
    'while it is submitted is taken back as soon as the batch system has it',
    async () => {
      const release = holdQsub(site, 'before');
      const id = await submit('cancelled-submit', shell('echo hello'));
      await arex.waitFor(id, 'SUBMIT');
      expect((await arex.kill(id)).exitCode).toBe(0);
      await sleep(500);
      expect(arex.state(id)).toBe('SUBMIT');
      release();
      expect(await arex.end(id)).toMatch(CANCELLED);
      await expectGone(id);
    },
    JOB_MS,
  );

  it(
    'while it waits in the queue never runs',
    async () => {
      await manage(`set queue vmalice started = False`);
      try {
        const id = await submit('cancelled-queued', shell('echo hello'));
        await arex.waitFor(id, 'INLRMS');
        expect((await qstat(arex.localId(id) ?? ''))['job_state']).toBe('Q');
        expect(batchJobsOf(site, id)).toEqual([arex.localId(id)]);
        expect((await arex.kill(id)).exitCode).toBe(0);
        expect(await arex.end(id)).toMatch(CANCELLED);
        expect((await qstat(arex.localId(id) ?? ''))['start_count']).toBeUndefined();
      } finally {
        await manage(`set queue vmalice started = True`);
      }
    },
    JOB_MS,
  );

  it(
    'while its guest is being started never runs, and nothing is left',
    async () => {
      const release = holdGuests(site);
      try {
        const id = await submit('cancelled-prologue', `${shell('touch ran')} (outputFiles = ("/" ""))`);
        await until(() => (arex.localId(id) ?? '') !== '', 'the batch job');
        await until(async () => (await audit(site)).domains === 1, 'the guest');
        expect((await arex.kill(id)).exitCode).toBe(0);
        expect(await arex.end(id)).toMatch(CANCELLED);
        await expectGone(id);
        const [outputs = ''] = await arex.get(id);
        expect(contents(outputs)).not.toHaveProperty('ran');
      } finally {
        release();
      }
    },
    JOB_MS,
  );

  it(
    'while it runs is ended, and what it wrote until then can be fetched',
    async () => {
      const id = await submit('cancelled-running', shell('echo started; sleep 300'));
      const out = join(site.sessions, id, 'std.out');
      await arex.waitFor(id, 'INLRMS');
      await until(() => read(out) === 'started\n', 'the job');
      expect((await arex.kill(id)).exitCode).toBe(0);
      expect(await arex.end(id)).toMatch(CANCELLED);
      await expectGone(id);
      const [outputs = ''] = await arex.get(id);
      expect(contents(outputs)['std.out']).toBe('started\n');
      expect((await arex.accounting(id)).properties['nodenames']).toBe('vmbatch-node');
    },
    JOB_MS,
  );

  it(
    'when it has finished stays as it is',
    async () => {
      const id = await submit('cancelled-finished', shell('echo hello'));
      expect(await arex.end(id)).toBe('');
      await arex.kill(id);
      await sleep(500);
      expect(arex.state(id)).toBe('FINISHED');
      expect(await arex.end(id)).toBe('');
      expect((await arex.accounting(id)).exitCode).toBe(0);
    },
    JOB_MS,
  );
});

describe('a restart of A-REX', () => {
  it(
    'during a submission leaves exactly one batch job, and does not disturb one that runs',
    async () => {
      const running = await submit('restart-inlrms', shell('sleep 12; echo done'));
      await until(() => batchJobsOf(site, running).length === 1, 'the batch job');
      // The server has the job, submit has not heard of it yet.
      const release = holdQsub(site, 'after');
      const submitting = await submit('restart-submit', shell('echo done'));
      await until(() => batchJobsOf(site, submitting).length === 1, 'the batch job');
      expect(arex.state(submitting)).toBe('SUBMIT');
      await arex.restart();
      release();
      expect(await arex.end(submitting)).toBe('');
      expect(await arex.end(running)).toBe('');
      expect(batchJobsOf(site, submitting)).toHaveLength(1);
      expect(batchJobsOf(site, running)).toHaveLength(1);
      const [one = '', other = ''] = await arex.get(submitting, running);
      expect(contents(one)['std.out']).toBe('done\n');
      expect(contents(other)['std.out']).toBe('done\n');
    },
    JOB_MS,
  );

  it(
    'while qsub has not reached the server yet leaves exactly one batch job too, although that qsub lives on',
    async () => {
      const release = holdQsub(site, 'before');
      const id = await submit('restart-qsub', shell('echo done'));
      const mark = join(site.sessions, id, '.vmbatch-submission');
      await until(() => existsSync(mark), 'the submission');
      await arex.restart();
      // By then A-REX has started the submission anew, which waits for what is left of the first one.
      await sleep(3_000);
      expect(batchJobsOf(site, id)).toHaveLength(0);
      release();
      expect(await arex.end(id)).toBe('');
      expect(batchJobsOf(site, id)).toHaveLength(1);
      expect(existsSync(mark)).toBe(false);
    },
    JOB_MS,
  );
});

describe('fifty jobs at once', () => {
  it('all run, each in a guest of its own, and all come back with their own output', async () => {
    const files = Array.from({ length: 50 }, (_, index) =>
      description(`many-${index}`, shell(`echo job ${index}; cat /proc/sys/kernel/random/boot_id`)),
    );
    const ids = await arex.submit(...files);
    expect(new Set(ids).size).toBe(50);
    for (const id of ids) expect(await arex.end(id, 180_000)).toBe('');
    const fetched = await arex.get(...ids);
    const machines = new Set<string>();
    for (const [index, directory] of fetched.entries()) {
      const [line, machine = ''] = contents(directory)['std.out']?.split('\n') ?? [];
      expect(line).toBe(`job ${index}`);
      machines.add(machine);
    }
    expect(machines.size).toBe(50);
  }, 240_000);

  it('is heard of soon after TORQUE has written the end into its log', () => {
    const { count, lrmsDone, finished } = ends.summary();
    process.stdout.write(
      `end in the log -> lrms_done -> FINISHED, ${count} jobs, medians: ${lrmsDone.toFixed(2)} s, ${finished.toFixed(2)} s\n`,
    );
    expect(count).toBeGreaterThan(40);
    // ARC's own backend looks once a minute.
    expect(lrmsDone).toBeLessThan(30);
  });
});

async function qstat(id: string): Promise<Record<string, string>> {
  const { stdout } = await site.asUser(join(site.standin.binDir, 'qstat'), ['-f', '-1', id]);
  return Object.fromEntries(
    [...stdout.matchAll(/^ {4}(\S+) = (.*)$/gm)].map(([, name = '', value = '']) => [name, value]),
  );
}

async function manage(command: string): Promise<void> {
  const { run } = await import('../../src/util/processes/run.ts');
  const result = await run(join(site.standin.binDir, 'qmgr'), ['-c', command], { env: site.env });
  expect(result).toMatchObject({ exitCode: 0, stderr: '' });
}

/** The batch job is over, and nothing of its guest is left. */
async function expectGone(id: string): Promise<void> {
  await until(
    async () => (await qstat(arex.localId(id) ?? ''))['job_state'] === 'C',
    'the end of the batch job',
  );
  await until(async () => (await audit(site)).processes === 0, 'the end of the hooks');
  expect(await audit(site)).toEqual(NOTHING);
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

interface GuestHistory {
  jobId: string;
  request: { image: string; vcpus: number; memoryBytes: number };
  guest: { hostname: string; bootId: string; system: string };
}

/** What the node has written down about the guest of a batch job. */
function guestOf(localId: string): GuestHistory {
  const lines = readFileSync(join(site.state, 'history.jsonl'), 'utf8').trim().split('\n');
  const found = lines.map((line) => JSON.parse(line) as GuestHistory).find(({ jobId }) => jobId === localId);
  if (found === undefined) throw new Error(`the node's history has no guest of ${localId}`);
  return found;
}
