// Hooks against a real libvirt, with guests whose kernel halts at once: many at the same time, and killed at
// their steps.
import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { guestProcesses } from '../site/guests.ts';
import { cpuCanVirtualise, type PrivateLibvirtd, startPrivateLibvirtd } from '../site/libvirtd.ts';
import { makeGuestNetwork } from '../site/network.ts';
import { runSheltered } from '../site/sheltered.ts';
import { Undo } from '../site/undo.ts';

const COUNT = 32;
const SERVER = `halts-${process.pid}`;
let vmbatch: string;
const NOBODY = 65534;

const undo = new Undo();
let directory: string;
let libvirtd: PrivateLibvirtd;
let namespace: string;

beforeAll(async () => {
  // Short: of sockets.
  directory = mkdtempSync('/var/tmp/vmb-halts-');
  chmodSync(directory, 0o755);
  undo.add('remove the directory', async () => {
    rmSync(directory, { recursive: true, force: true });
    return undefined;
  });
  for (const name of ['share', 'state', 'jobs', 'lv']) mkdirSync(join(directory, name));
  chmodSync(join(directory, 'state'), 0o711);
  namespace = `vmb-${process.pid}-h`;
  const network = await makeGuestNetwork('static', namespace, join(directory, 'locks'), undo);
  await startLibvirtd();
  undo.add('stop libvirtd', async () => void (await libvirtd.stop()));
  writeFileSync(join(directory, 'kernel'), haltingKernel());
  writeFileSync(join(directory, 'initrd'), 'nothing');
  await runSheltered('qemu-img', ['create', '-q', '-f', 'qcow2', join(directory, 'image.qcow2'), '1M']);
  const pool = Array.from({ length: COUNT + 3 }, (_, index) => `{ address: 192.0.2.${index + 10} }`);
  writeFileSync(
    join(directory, 'node.yaml'),
    `queues: [vmalice]
prologue_mode: started
starts: ${COUNT}
memory: { free_floor: 0 MiB }
guard: { faults: 0 }
state: ${directory}/state
log: ${directory}/log
hypervisor: { type: qemu, uri: "${libvirtd.uri}" }
images:
  halts:
    path: ${directory}/image.qcow2
    boot: { kernel: ${directory}/kernel, initrd: ${directory}/initrd }
    memory: { default: 64 MiB, maximum: 64 MiB }
network: { type: bridge, name: ${network.config['name']}, addressing: static, prefix_length: 24, filter: off,
  pool: [${pool.join(', ')}] }
share: { type: nfs, server: "127.0.0.1:/share", path: ${directory}/share }
disk: { free_floor: 0 MiB, cache: 64 MiB, scratch: { default: 1 MiB, maximum: 1 MiB } }
timeouts: { virsh: 120 s }
`,
  );
  // Where the jobs' user can read it, which a checkout need not be.
  cpSync(new URL('../../dist', import.meta.url).pathname, join(directory, 'dist'), { recursive: true });
  vmbatch = join(directory, 'dist/vmbatch');
  const install = ['--mom-dir', directory, '--job-starter', join(directory, 'job-starter'), '--write-config'];
  const installed = await runSheltered(vmbatch, [
    ...['hooks', 'install', '--config', join(directory, 'node.yaml')],
    ...install,
  ]);
  expect(installed.exitCode, installed.stderr).toBe(0);
}, 120_000);
afterAll(async () => {
  expect(await undo.run()).toEqual([]);
}, 60_000);
afterEach(async () => {
  expect(await left()).toEqual([]);
});

async function startLibvirtd(): Promise<void> {
  libvirtd = await startPrivateLibvirtd(join(directory, 'lv'), { hideKvm: !cpuCanVirtualise(), namespace });
}

/** Multiboot: its header says where to put the 36 bytes and where to begin; then `cli; hlt` for ever. */
function haltingKernel(): Buffer {
  const [magic, flags, at] = [0x1badb002, 0x0001_0000, 0x0010_0000];
  const words = [magic, flags, -(magic + flags) >>> 0, at, at, 0, 0, at + 32];
  const header = Buffer.alloc(32);
  for (const [index, word] of words.entries()) header.writeUInt32LE(word, 4 * index);
  return Buffer.concat([header, Buffer.from([0xfa, 0xf4, 0xeb, 0xfd])]);
}

const script = (jobId: string, ending = 'SC') => join(directory, 'jobs', `${jobId}.${ending}`);
const options = () => ['--config', join(directory, 'node.yaml'), '--state', join(directory, 'state')];

function prologue(jobId: string): { child: ChildProcess; ended: Promise<number | string> } {
  writeFileSync(script(jobId), '#!/bin/sh\ntrue\n');
  chownSync(script(jobId), NOBODY, NOBODY);
  writeFileSync(script(jobId, 'JB'), '');
  const words = [jobId, 'nobody', 'nogroup', 'job', 'nodes=1', 'vmalice', '', script(jobId)];
  // As the mom: in a session of its own.
  const child = spawn(vmbatch, ['prologue', ...options(), ...words], { stdio: 'ignore', detached: true });
  const ended = new Promise<number | string>((resolve) =>
    child.once('exit', (code, signal) => resolve(signal ?? code ?? -1)),
  );
  return { child, ended };
}

async function epilogue(jobId: string): Promise<number | undefined> {
  const words = [jobId, 'nobody', 'nogroup', 'job', '1', 'nodes=1', '', 'vmalice', '', '0', script(jobId)];
  return (await runSheltered(vmbatch, ['epilogue', ...options(), ...words])).exitCode;
}

function forget(jobId: string): void {
  for (const ending of ['SC', 'JB']) rmSync(script(jobId, ending), { force: true });
}

const reap = () => runSheltered(vmbatch, ['reap', ...options()]);
const namesIn = (path: string) =>
  existsSync(join(directory, path)) ? readdirSync(join(directory, path)) : [];
const domains = async () =>
  (await runSheltered('virsh', ['-c', libvirtd.uri, 'list', '--name'])).stdout.split('\n').filter(Boolean);

/** Everything that guests are made of, whatever it is of. */
async function left(): Promise<string[]> {
  const folders = ['state/jobs', 'state/sessions', 'state/leases', 'state/starts', 'state/claims', 'locks'];
  return [
    ...(await domains()),
    ...guestProcesses(SERVER).map(({ domain }) => `process of ${domain}`),
    ...folders.flatMap((folder) => namesIn(folder).map((name) => `${folder}/${name}`)),
    ...namesIn('share/.vmbatch/ready'),
  ];
}

const stepsOf = (jobId: string): Record<string, string> => {
  try {
    const text = readFileSync(join(directory, 'state/jobs', jobId, 'record.json'), 'utf8');
    return (JSON.parse(text) as { steps: Record<string, string> }).steps;
  } catch {
    return {};
  }
};

describe.runIf(process.getuid?.() === 0)('on a real libvirt', () => {
  it(`${COUNT} prologues at once: no name, MAC, address or lock is taken twice, and nothing is left of them`, async () => {
    const jobs = Array.from({ length: COUNT }, (_, index) => `${index}.${SERVER}`);
    const started = jobs.map(prologue);
    expect(await Promise.all(started.map(({ ended }) => ended))).toEqual(jobs.map(() => 0));
    const names = await domains();
    expect(names.toSorted()).toEqual(jobs.map((jobId) => `vmbatch-${jobId}`).toSorted());
    const macs: string[] = [];
    const disks: string[] = [];
    for (const name of names) {
      const { stdout } = await runSheltered('virsh', ['-c', libvirtd.uri, 'dumpxml', name]);
      macs.push(...(stdout.match(/<mac address='[^']*'/g) ?? []));
      disks.push(...(stdout.match(/<source file='[^']*\/(overlay|scratch|cache)[^']*'/g) ?? []));
    }
    expect(new Set(macs).size).toBe(COUNT);
    expect(new Set(disks).size).toBe(3 * COUNT);
    const records = jobs.map(
      (jobId) =>
        JSON.parse(readFileSync(join(directory, 'state/jobs', jobId, 'record.json'), 'utf8')) as {
          poolAddress: string;
        },
    );
    expect(new Set(records.map(({ poolAddress }) => poolAddress)).size).toBe(COUNT);
    expect(await Promise.all(jobs.map(epilogue))).toEqual(jobs.map(() => 0));
    for (const jobId of jobs) forget(jobId);
    expect(namesIn('state/cache')).toHaveLength(COUNT);
  }, 300_000);

  it.each(['network', 'overlay', 'context', 'domain', 'session'])(
    'a prologue that gets SIGKILL in its step %s leaves nothing that the epilogue, or without it the reaper, does not remove',
    async (step) => {
      const jobs = [`100.${SERVER}`, `101.${SERVER}`];
      for (const jobId of jobs) {
        const { child, ended } = prologue(jobId);
        while (stepsOf(jobId)[step] === undefined && child.exitCode === null) await sleep(1);
        process.kill(-(child.pid ?? 0), 'SIGKILL');
        expect(['SIGKILL', 0]).toContain(await ended);
      }
      const [first = '', second = ''] = jobs;
      expect(await epilogue(first)).toBe(0);
      forget(first);
      forget(second);
      // libvirt may still be at what the killed one asked for.
      for (let rounds = 0; rounds < 20 && (await left()).length > 0; rounds++) {
        await sleep(200);
        expect((await reap()).exitCode).toBe(0);
      }
    },
    120_000,
  );

  it('a guest whose libvirtd is gone is ended all the same, and so is one that nobody has a record of', async () => {
    const jobs = [`200.${SERVER}`, `201.${SERVER}`];
    for (const jobId of jobs) expect(await prologue(jobId).ended).toBe(0);
    const [first = '', second = ''] = jobs;
    await libvirtd.stop({ keepDomains: true });
    try {
      expect(guestProcesses(SERVER)).toHaveLength(2);
      expect(await epilogue(first)).toBe(0);
      expect(guestProcesses(SERVER).map(({ domain }) => domain)).toEqual([`vmbatch-${second}`]);
    } finally {
      await startLibvirtd();
    }
    rmSync(join(directory, 'state/jobs', second, 'record.json'));
    for (const jobId of jobs) forget(jobId);
    const { stdout, exitCode } = await reap();
    expect(stdout).toContain(`domain vmbatch-${second}`);
    expect(exitCode).toBe(0);
  }, 120_000);
});
