// The whole chain on real parts: batch scripts submitted with plain qsub run in real guests, and whatever
// goes wrong leaves nothing behind. One site serves all tests.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { generateKeyPair } from '../../src/context/keys.ts';
import { audit } from '../site/audit.ts';
import { createGridJob, jalienJob, startScan } from '../site/grid-job.ts';
import { QUEUE, type Site, startSite } from '../site/site.ts';
import { writeHook } from '../standin/start.ts';

const NOTHING = { domains: 0, disks: 0, isos: 0, leases: 0, locks: 0, keys: 0, processes: 0 };
/** A guest boots in some seconds on an idle machine; CI's is not always idle. */
const JOB_MS = 120_000;

let site: Site;
let jobCount = 0;

beforeAll(async () => {
  site = await startSite({
    directory: `/var/tmp/vmbatch-test-${process.pid}`,
    account: 'vmbatch-test',
    dist: new URL('../../dist', import.meta.url).pathname,
    onStage: () => undefined,
  });
}, 300_000);

afterAll(async () => {
  expect(await site?.stop()).toEqual([]);
}, 60_000);

afterEach(async () => {
  expect(await audit(site)).toEqual(NOTHING);
});

interface Job {
  id: string;
  stdout: string;
  stderr: string;
}

async function submit(script: string | Buffer, options: string[] = []): Promise<Job> {
  const path = join(site.account.home, `job${++jobCount}.sh`);
  writeFileSync(path, script, { mode: 0o755 });
  const result = await site.asUser(join(site.standin.binDir, 'qsub'), ['-q', QUEUE, ...options, path]);
  expect(result).toMatchObject({ exitCode: 0, stderr: '' });
  const id = result.stdout.trim();
  const number = id.split('.')[0];
  const out = join(site.account.home, `job${jobCount}.sh`);
  return { id, stdout: `${out}.o${number}`, stderr: `${out}.e${number}` };
}

async function qstat(id: string): Promise<{ state: string; exitStatus: number | undefined }> {
  const { stdout } = await site.asUser(join(site.standin.binDir, 'qstat'), ['-f', '-1', id]);
  const exitStatus = /^ *exit_status = (-?\d+)$/m.exec(stdout)?.[1];
  return {
    state: /^ *job_state = (\w)$/m.exec(stdout)?.[1] ?? '?',
    exitStatus: exitStatus === undefined ? undefined : Number(exitStatus),
  };
}

/** Waits until TORQUE says that the job is complete; returns its exit status. */
async function ended(id: string): Promise<number | undefined> {
  await until(async () => (await qstat(id)).state === 'C', `the end of ${id}`);
  return (await qstat(id)).exitStatus;
}

async function until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + JOB_MS - 10_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await sleep(50);
  }
}

const session = (id: string) => join(site.state, 'sessions', id, 'session.json');
const nodeLog = () => readFileSync(join(site.log, 'vmbatch.log'), 'utf8');
const logOf = (id: string) =>
  nodeLog()
    .split('\n')
    .filter((line) => line.includes(` ${id} `))
    .join('\n');

async function qdel(id: string): Promise<void> {
  expect(await site.asUser(join(site.standin.binDir, 'qdel'), [id])).toMatchObject({ exitCode: 0 });
}

describe('a batch script submitted with plain qsub', () => {
  it(
    'runs in a guest with what TORQUE would have given it, and its exit code comes back',
    async () => {
      const job = await submit(
        '#!/bin/sh\ncat /proc/sys/kernel/random/boot_id; id -un; pwd; umask; echo "$PBS_JOBID $PBS_QUEUE $TRICKY"; wc -l <"$PBS_NODEFILE"; exit 3\n',
        ['-v', 'TRICKY=two words'],
      );
      expect(await ended(job.id)).toBe(3);
      const [bootId, ...rest] = readFileSync(job.stdout, 'utf8').trimEnd().split('\n');
      expect(bootId).toMatch(/^[0-9a-f-]{36}$/);
      expect(bootId).not.toBe(readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
      expect(rest).toEqual([
        site.account.name,
        site.account.home,
        '0077',
        `${job.id} ${QUEUE} two words`,
        '1',
      ]);
    },
    JOB_MS,
  );

  it(
    'gets the guest that its #VMBATCH lines ask for',
    async () => {
      const job = await submit(
        '#!/bin/sh\n#VMBATCH image=demo vcpus=2 memory=384MiB\ngrep -c ^processor /proc/cpuinfo; grep MemTotal /proc/meminfo\n',
      );
      expect(await ended(job.id)).toBe(0);
      const [processors, memory] = readFileSync(job.stdout, 'utf8').split('\n');
      expect(processors).toBe('2');
      expect(Number(/\d+/.exec(memory ?? '')?.[0])).toBeGreaterThan(320 * 1024);
    },
    JOB_MS,
  );

  it(
    'may write ten megabytes, NUL bytes and UTF-8 to stdout, and all of it arrives unchanged',
    async () => {
      const job = await submit(
        `#!/bin/sh
printf 'a\\000b\\377 ünï–日本\\n'
i=0
while [ $i -lt 10 ]; do head -c 1048576 /dev/zero | tr '\\000' $i; i=$((i + 1)); done
`,
      );
      expect(await ended(job.id)).toBe(0);
      const expected = Buffer.concat([
        Buffer.from([97, 0, 98, 255]),
        Buffer.from(' ünï–日本\n'),
        ...[...'0123456789'].map((digit) => Buffer.alloc(1 << 20, digit)),
      ]);
      const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex');
      const got = readFileSync(job.stdout);
      expect(got.length).toBe(expected.length);
      expect(sha256(got)).toBe(sha256(expected));
    },
    JOB_MS,
  );

  it(
    'runs on the node itself in a queue that vmbatch does not serve',
    async () => {
      const job = await submit('#!/bin/sh\ncat /proc/sys/kernel/random/boot_id\n', ['-q', 'plain']);
      expect(await ended(job.id)).toBe(0);
      expect(readFileSync(job.stdout)).toEqual(readFileSync('/proc/sys/kernel/random/boot_id'));
      expect(logOf(job.id)).toBe('');
    },
    JOB_MS,
  );
});

describe('qdel', () => {
  it(
    'of a running job delivers the output so far, lets the job put things in order, and the guest is gone within 5 s',
    async () => {
      const job = await submit(
        "#!/bin/bash\ntrap 'echo in order; exit 0' TERM\necho started\nwhile :; do sleep 0.1; done\n",
      );
      await until(() => existsSync(session(job.id)), 'the guest');
      const output = join(site.standin.spoolDir, `${job.id}.OU`);
      await until(() => readFileSync(output, 'utf8') === 'started\n', 'the job');
      const begun = performance.now();
      await qdel(job.id);
      await until(async () => (await audit(site)).domains === 0, 'the end of the guest');
      expect((performance.now() - begun) / 1000).toBeLessThan(5);
      // 256 + SIGTERM, as for a job that never had a guest.
      expect(await ended(job.id)).toBe(271);
      expect(readFileSync(job.stdout, 'utf8')).toBe('started\nin order\n');
    },
    JOB_MS,
  );

  it(
    'of a job that will not end kills it after the kill delay, and the guest is gone within 5 s of that',
    async () => {
      const job = await submit("#!/bin/bash\ntrap '' TERM\necho started\nwhile :; do sleep 1; done\n");
      const output = join(site.standin.spoolDir, `${job.id}.OU`);
      await until(() => existsSync(output) && readFileSync(output, 'utf8') === 'started\n', 'the job');
      await qdel(job.id);
      const killed = performance.now() + 2_000;
      await until(async () => (await audit(site)).domains === 0, 'the end of the guest');
      expect((performance.now() - killed) / 1000).toBeLessThan(5);
      // 256 + SIGKILL
      expect(await ended(job.id)).toBe(265);
      expect(readFileSync(job.stdout, 'utf8')).toBe('started\n');
    },
    JOB_MS,
  );

  it(
    'of a job whose guest is being started leaves nothing, and the job never runs',
    async () => {
      const job = await submit(`#!/bin/sh\ntouch ${site.account.home}/ran\n`);
      await until(() => existsSync(join(site.state, 'jobs', job.id, 'console.log')), 'the domain');
      await qdel(job.id);
      await ended(job.id);
      await until(async () => (await audit(site)).processes === 0, 'the end of the prologue');
      expect(existsSync(join(site.account.home, 'ran'))).toBe(false);
      expect(logOf(job.id)).toMatch(/was deleted while its guest was being started/);
    },
    JOB_MS,
  );
});

describe('a guest', () => {
  it(
    'that dies under its job ends the job with a message that says so',
    async () => {
      const job = await submit('#!/bin/sh\necho started\nsleep 300\n');
      const output = join(site.standin.spoolDir, `${job.id}.OU`);
      await until(() => existsSync(output) && readFileSync(output, 'utf8') === 'started\n', 'the job');
      const { guest } = JSON.parse(readFileSync(session(job.id), 'utf8'));
      process.kill(guest.pid, 'SIGKILL');
      expect(await ended(job.id)).toBe(251);
      expect(readFileSync(job.stderr, 'utf8')).toMatch(/node fault: the guest ended before its job did/);
      expect(readFileSync(job.stdout, 'utf8')).toBe('started\n');
    },
    JOB_MS,
  );

  it(
    'that answers with another host key than the one made for it gets no job',
    async () => {
      const prologue = join(site.standin.momPrivDir, 'prologue');
      renameSync(prologue, `${prologue}.real`);
      // The guest is another one than the session says: what somebody in between would look like.
      const { publicKey } = generateKeyPair();
      writeHook(
        prologue,
        `#!/bin/sh\n"$0.real" "$@" || exit\nsed -i 's|"hostKey":"[^"]*"|"hostKey":"${publicKey}"|' '${site.state}/sessions/'"$1/session.json"\n`,
      );
      try {
        const job = await submit(`#!/bin/sh\ntouch ${site.account.home}/ran\n`);
        expect(await ended(job.id)).toBe(251);
        expect(readFileSync(job.stderr, 'utf8')).toMatch(/another host key .*\[host-key-mismatch\]/);
        expect(existsSync(join(site.account.home, 'ran'))).toBe(false);
      } finally {
        renameSync(`${prologue}.real`, prologue);
      }
    },
    JOB_MS,
  );
});

describe('a node that cannot start guests', () => {
  /** Submits, waits until the prologue has failed twice, and takes the job back. */
  async function failsOnThisNode(pattern: RegExp): Promise<void> {
    const job = await submit('#!/bin/sh\necho hello\n');
    await until(() => (logOf(job.id).match(new RegExp(pattern, 'g')) ?? []).length >= 2, String(pattern));
    await qdel(job.id);
    await ended(job.id);
    await until(async () => (await audit(site)).processes === 0, 'the end of the hooks');
    expect(existsSync(job.stdout)).toBe(false);
  }
  const changed = async (changes: Record<string, unknown>, work: () => Promise<void>) => {
    site.configureNode(changes);
    try {
      await work();
    } finally {
      site.configureNode({});
    }
  };

  it(
    'because libvirt cannot be reached says so and puts the job back into the queue',
    () =>
      changed({ hypervisor: { type: 'auto', uri: 'qemu:///system?socket=/nonexistent' } }, () =>
        failsOnThisNode(/libvirt at .*nonexistent cannot be reached/),
      ),
    JOB_MS,
  );

  it(
    'because its guests are never ready gives up at its own deadline',
    () => changed({ timeouts: { ready: '1 s' } }, () => failsOnThisNode(/wrote no ready file .* within 1 s/)),
    JOB_MS,
  );
});

describe('a job that asks for what there is not', () => {
  it(
    'fails once and for good, with a message that lists what there is',
    async () => {
      const job = await submit('#!/bin/sh\n#VMBATCH image=other\necho hello\n');
      expect(await ended(job.id)).toBe(-2);
      expect(logOf(job.id)).toMatch(/"other".*demo/);
    },
    JOB_MS,
  );
});

describe('a grid job', () => {
  it(
    'goes from the grami file through a guest to lrms_done, and can be cancelled while it runs',
    async () => {
      const scan = startScan(site);
      try {
        const job = createGridJob(
          site,
          jalienJob('#!/bin/bash\ncp input.txt result.txt\nsleep 300\n', {
            name: 'input.txt',
            text: 'data\n',
          }),
        );
        const { localId, exitCode } = await job.submit();
        expect(exitCode).toBe(0);
        await until(() => existsSync(join(job.session, 'result.txt')), 'the job');
        expect((await job.cancel()).exitCode).toBe(0);
        expect(await job.waitForEnd(60_000)).toEqual({ code: 271, text: 'Job was deleted on request' });
        expect(readFileSync(`${job.session}.diag`, 'utf8')).toMatch(/^nodename=vmbatch-node$/m);
        expect(localId).toMatch(new RegExp(`^\\d+\\.${site.serverName}$`));
      } finally {
        scan.kill('SIGTERM');
      }
    },
    JOB_MS,
  );
});

describe('ten jobs one after the other', () => {
  it(
    'all run, each in a guest of its own',
    async () => {
      const jobs: Job[] = [];
      for (let i = 0; i < 10; i++)
        jobs.push(await submit('#!/bin/sh\ncat /proc/sys/kernel/random/boot_id\n'));
      for (const job of jobs) expect(await ended(job.id)).toBe(0);
      const boots = new Set(jobs.map((job) => readFileSync(job.stdout, 'utf8')));
      expect(boots.size).toBe(10);
    },
    JOB_MS * 3,
  );
});
