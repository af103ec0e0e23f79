// Guests on networks that they share: a bridge with a pool of addresses, and a network of libvirt's with
// DHCP. In a network namespace, with real guests.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../src/util/processes/run.ts';
import { audit } from '../site/audit.ts';
import type { GuestNetworkKind } from '../site/network.ts';
import { QUEUE, type Site, startSite } from '../site/site.ts';
import { readIfThere } from '../support/files.ts';

const JOB_MS = 120_000;
const NOTHING = { domains: 0, disks: 0, isos: 0, leases: 0, locks: 0, keys: 0, processes: 0 };

let site: Site;
let jobCount = 0;

async function start(network: GuestNetworkKind): Promise<void> {
  site = await startSite({
    directory: `/var/tmp/vmbatch-net-${process.pid}-${network}`,
    account: 'vmbatch-test',
    dist: new URL('../../dist', import.meta.url).pathname,
    nodes: 2,
    network,
    onStage: () => undefined,
  });
}

/** Submits a job; its output is then looked at with `finished`. */
async function submit(script: string, ...options: string[]): Promise<{ id: string; file: string }> {
  const file = join(site.account.home, `job${++jobCount}.sh`);
  writeFileSync(file, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const { stdout, stderr } = await site.asUser(join(site.standin.binDir, 'qsub'), [
    '-q',
    QUEUE,
    ...options,
    file,
  ]);
  expect(stderr).toBe('');
  return { id: stdout.trim(), file };
}

async function finished({ id, file }: { id: string; file: string }): Promise<string> {
  for (let round = 0; round < 1200; round++) {
    const { stdout } = await site.asUser(join(site.standin.binDir, 'qstat'), ['-f', '-1', id]);
    if (/job_state = C/.test(stdout)) {
      const number = id.split('.')[0];
      return `${readIfThere(`${file}.o${number}`)}${readIfThere(`${file}.e${number}`)}`;
    }
    await sleep(100);
  }
  throw new Error(`job ${id} does not end: ${readFileSync(join(site.log, 'vmbatch.log'), 'utf8')}`);
}

async function answersSsh(address: string): Promise<boolean> {
  const words = [
    'netns',
    'exec',
    site.namespace ?? '',
    'timeout',
    '3',
    'bash',
    '-c',
    `</dev/tcp/${address}/22`,
  ];
  return (await run('ip', words)).exitCode === 0;
}

async function nothingLeft(): Promise<void> {
  expect(await audit(site)).toEqual(NOTHING);
  expect(readdirSync(join(site.directory, 'locks'))).toEqual([]);
  for (const { state } of site.nodes) expect(readdirSync(join(state, 'jobs'))).toEqual([]);
}

describe('a bridge with a pool of two addresses', () => {
  beforeAll(() => start('static'), 300_000);
  afterAll(async () => expect(await site?.stop()).toEqual([]), 60_000);

  it(
    'gives a job on two nodes a guest on each, which know each other by name and let the job in',
    async () => {
      const output = await finished(
        await submit(
          `cat "$PBS_NODEFILE"
for guest in $(uniq "$PBS_NODEFILE"); do ssh "$guest" 'echo "$(hostname) $(id -un) $(cat /proc/sys/kernel/random/boot_id)"'; done
for last in 10 11; do timeout 5 bash -c "exec 3<>/dev/tcp/2001:db8::$last/22 && head -c 7 <&3 && echo"; done
ip -o addr show dev eth0 | grep -o 'inet6* [0-9a-f.:/]*' | sort`,
          '-l',
          'nodes=2:ppn=2',
        ),
      );
      const [first, second] = output.includes('vm10') ? ['vm10.example.org', 'vm11.example.org'] : ['?', '?'];
      const lines = output.trim().split('\n');
      expect(lines.slice(0, 4).sort()).toEqual([first, first, second, second]);
      const guests = lines.slice(4, 6).map((line) => line.split(' '));
      expect(guests.map(([name]) => name).sort()).toEqual([first, second]);
      expect(guests.map(([, user]) => user)).toEqual([site.account.name, site.account.name]);
      expect(new Set(guests.map(([, , bootId]) => bootId)).size).toBe(2);
      // IPv6 from guest to guest, through the filter that keeps each to its own addresses.
      expect(lines.slice(6, 8)).toEqual(['SSH-2.0', 'SSH-2.0']);
      expect(lines.slice(8).join(' ')).toMatch(/inet 192\.0\.2\.1[01]\/24 .*inet6 2001:db8::1[01]\/64/);
      await nothingLeft();
    },
    JOB_MS,
  );

  it(
    'says that the pool is exhausted when a third guest is wanted, and goes on when one is given back',
    async () => {
      writeFileSync(
        join(site.directory, 'locks/address-192.0.2.10'),
        JSON.stringify({ jobId: '999.elsewhere', node: 'elsewhere', since: Date.now() }),
      );
      const first = await submit('hostname; sleep 4', '-l', 'nodes=vmbatch-node');
      const second = await submit('hostname', '-l', 'nodes=vmbatch-node2');
      const outputs = await Promise.all([finished(first), finished(second)]);
      expect(outputs.map((text) => text.trim())).toEqual(['vm11.example.org', 'vm11.example.org']);
      const log = readFileSync(join(site.log, 'vmbatch.log'), 'utf8');
      expect(log).toMatch(/code=pool-exhausted/);
      await run('rm', [join(site.directory, 'locks/address-192.0.2.10')]);
      await nothingLeft();
    },
    JOB_MS,
  );

  it(
    'drops the other guest of a job whose first node refuses it',
    async () => {
      const job = await submit('#VMBATCH memory=900GiB\nhostname', '-l', 'nodes=2');
      await finished(job);
      expect(readIfThere(join(site.log, 'vmbatch.log'))).toMatch(/ memory: found .*900/);
      // No epilogue.parallel comes: the other node sees that the place where they meet is gone.
      for (let round = 0; (await audit(site)).processes > 0 && round < 100; round++) await sleep(100);
      await nothingLeft();
    },
    JOB_MS,
  );

  it(
    'drops the guests on all nodes when the job is deleted while they boot, though TORQUE tells only the first node',
    async () => {
      const job = await submit('hostname', '-l', 'nodes=2');
      const records = () => site.nodes.flatMap(({ state }) => readdirSync(join(state, 'jobs')));
      for (let round = 0; records().length < 2 && round < 100; round++) await sleep(50);
      expect(records().sort()).toEqual([job.id, `${job.id}.node1`]);
      await sleep(2_000);
      await site.asUser(join(site.standin.binDir, 'qdel'), [job.id]);
      await finished(job);
      for (let round = 0; records().length > 0 && round < 400; round++) await sleep(100);
      await nothingLeft();
    },
    JOB_MS,
  );
});

describe("a network of libvirt's with DHCP", () => {
  beforeAll(() => start('dhcp'), 300_000);
  afterAll(async () => expect(await site?.stop()).toEqual([]), 60_000);

  it(
    "learns the guest's address, reaches it there, and gives the lease back",
    async () => {
      const job = await submit(
        'ip -4 -o addr show dev eth0; sleep 3; ip link show dev eth0',
        '-l',
        'nodes=1',
      );
      const output = await finished(job);
      const address = /inet (192\.0\.2\.1[0-2]\d)\/24/.exec(output)?.[1];
      expect(address).toBeDefined();
      const mac = /ether ([0-9a-f:]+)/.exec(output)?.[1] ?? '?';
      const leases = await run('virsh', ['-c', site.libvirtUri, 'net-dhcp-leases', 'guests']);
      expect(leases.exitCode).toBe(0);
      expect(leases.stdout).not.toContain(mac);
      await nothingLeft();
    },
    JOB_MS,
  );

  it(
    'gives two guests at once addresses and MACs of their own, also with the other ready channels',
    async () => {
      site.configureNode({ ready_channel: 'ssh' });
      const jobs = await Promise.all([
        submit('ip -o addr show dev eth0; ip link show dev eth0', '-l', 'nodes=vmbatch-node'),
        submit('ip -o addr show dev eth0; ip link show dev eth0', '-l', 'nodes=vmbatch-node2'),
      ]);
      const outputs = await Promise.all(jobs.map(finished));
      const all = (pattern: RegExp) => new Set(outputs.map((text) => pattern.exec(text)?.[1]));
      expect(all(/inet (\S+)/).size).toBe(2);
      expect(all(/ether (\S+)/).size).toBe(2);
      await nothingLeft();
    },
    JOB_MS,
  );

  it(
    'keeps a guest from using the address of another (nwfilter)',
    async () => {
      // Root in the guest belongs to the job; here the site's hook is it.
      const hook = join(site.directory, 'before-job');
      writeFileSync(hook, '#!/bin/sh\nip addr add 192.0.2.200/24 dev eth0\n');
      site.configureNode({ context: { before_job: hook } });
      const job = await submit('for i in 1 2 3 4 5 6; do sleep 1; done', '-l', 'nodes=vmbatch-node');
      let own: string | undefined;
      for (let round = 0; own === undefined && round < 600; round++) {
        await sleep(100);
        const text = readFileSync(join(site.log, 'vmbatch.log'), 'utf8');
        if (text.includes(`${job.id} the guest is ready`)) {
          const record = JSON.parse(readFileSync(join(site.state, 'jobs', job.id, 'record.json'), 'utf8'));
          own = record.address;
        }
      }
      expect(await answersSsh(own ?? '?')).toBe(true);
      expect(await answersSsh('192.0.2.200')).toBe(false);
      await finished(job);
      await nothingLeft();
    },
    JOB_MS,
  );
});
