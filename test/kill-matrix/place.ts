// The node of a cell: real files below one directory, a hypervisor that is a folder of names, guests that
// only say that they are ready.
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { peersDirectory } from '../../src/guest/peers.ts';
import type { GuestProcess, Hypervisor } from '../../src/hypervisor/port.ts';
import { endGuest } from '../../src/node/life/end.ts';
import { runJob } from '../../src/node/life/run.ts';
import { startGuest } from '../../src/node/life/start.ts';
import { type ReapReport, reap } from '../../src/node/reap/reap.ts';
import { jobPaths } from '../../src/node/record.ts';
import { type NodeConfig, parseNodeConfig } from '../../src/node-file/read.ts';
import { VmbatchError } from '../../src/util/errors.ts';
import { NO_LOG } from '../../src/util/log.ts';
import { writeReady } from '../support/fake-guest.ts';
import { hookArguments, NOBODY, USUAL_START } from '../support/fake-hooks.ts';
import { asGuest } from './faults.ts';

/** The job that things happen to. */
export const JOB = '7.server';

export interface Place {
  directory: string;
  config: NodeConfig;
  hypervisor: Hypervisor;
}

export function makePlace(directory: string): Place {
  for (const path of ['', 'share', 'jobs', 'hv', 'state'])
    mkdirSync(join(directory, path), { recursive: true });
  chmodSync(directory, 0o755);
  chmodSync(join(directory, 'state'), 0o711);
  writeFileSync(join(directory, 'template.qcow2'), Buffer.from('514649fb00000003', 'hex'));
  return openPlace(directory);
}

/** A place that is made already. */
export function openPlace(directory: string): Place {
  const text = `queues: [vmalice]
state: ${directory}/state
log: ${directory}/log
hypervisor: { type: qemu }
images:
  demo: { path: ${directory}/template.qcow2, memory: { default: 256 MiB, maximum: 1 GiB } }
share: { type: nfs, server: "10.0.2.2:/share", path: ${directory}/share }
network: { type: bridge, name: br0, addressing: static, prefix_length: 24,
  pool: [{ address: 192.0.2.10 }, { address: 192.0.2.11 }, { address: 192.0.2.12 }] }
disk: { free_floor: 0 MiB, cache: 64 MiB, scratch: { default: 1 MiB, maximum: 1 MiB } }
timeouts: { ready: 2 s, share: 2500 ms, ssh_connect: 100 ms, epilogue: 5 s }
`;
  const config = parseNodeConfig(text, 'node.yaml');
  return { directory, config, hypervisor: openFolder(directory, config) };
}

/** While there is a file `hv-gone`, nothing can be asked of it. */
function openFolder(directory: string, config: NodeConfig): Hypervisor {
  const file = (name: string) => join(directory, 'hv', name);
  const reach = () => {
    if (!existsSync(join(directory, 'hv-gone'))) return;
    const message = 'libvirt cannot be reached';
    throw new VmbatchError({ fault: 'node', code: 'hypervisor-unreachable', message });
  };
  return {
    async create(xmlFile) {
      reach();
      const xml = readFileSync(xmlFile, 'utf8');
      const name = /<name>(.*)<\/name>/.exec(xml)?.[1] ?? '';
      writeFileSync(file(name), xml);
      const iso = readFileSync(join(xmlFile, '../context.iso'), 'latin1');
      asGuest(directory, () => {
        const told = writeReady(iso, 'ready', NOBODY, '192.0.2.10');
        answerForOthers(peersDirectory(config.readyDirectory, told('JOB_ID')));
      });
    },
    async destroy(name) {
      reach();
      rmSync(file(name), { force: true });
    },
    async list() {
      reach();
      return readdirSync(join(directory, 'hv'));
    },
    async describe(name) {
      reach();
      return existsSync(file(name)) ? readFileSync(file(name), 'utf8') : undefined;
    },
    addresses: async () => [],
    agent: async () => undefined,
    state: async () => undefined,
    filters: async () => ['clean-traffic'],
  };
}

/** Of a job on two nodes: the other one is ready at once. */
function answerForOthers(directory: string): void {
  const call = join(directory, 'call.json');
  if (!existsSync(call)) return;
  const { nonce } = JSON.parse(readFileSync(call, 'utf8')) as { nonce: string };
  const answer = join(directory, 'answer-1.json');
  writeFileSync(`${answer}.new`, JSON.stringify({ version: 1, nonce, node: 'other', hostname: 'guest2' }));
  chownSync(`${answer}.new`, NOBODY.uid, NOBODY.gid);
  renameSync(`${answer}.new`, answer);
}

const momFile = ({ directory }: Place, jobId: string, ending: string) =>
  join(directory, 'jobs', `${jobId}.${ending}`);

/** The mom takes the job. */
export function arrive(place: Place, jobId: string): void {
  const script = momFile(place, jobId, 'SC');
  writeFileSync(script, '#!/bin/sh\necho hello\n');
  chownSync(script, NOBODY.uid, NOBODY.gid);
  writeFileSync(momFile(place, jobId, 'JB'), '');
}

/** The mom is through with the job. */
export function leave(place: Place, jobId: string): void {
  for (const ending of ['SC', 'JB']) rmSync(momFile(place, jobId, ending), { force: true });
}

const hook = (place: Place, jobId: string) => hookArguments(jobId, momFile(place, jobId, 'SC'));

/** @param severalNodes whether the job is on two nodes, this one the first
 * @param as the process that an epilogue is to stop, and what stops it */
export async function prologue(
  place: Place,
  jobId: string,
  severalNodes: boolean,
  as: { self?: GuestProcess; signal?: AbortSignal } = {},
): Promise<void> {
  await startGuest({
    config: place.config,
    hook: hook(place, jobId),
    ...USUAL_START,
    hypervisor: place.hypervisor,
    log: NO_LOG,
    ...(as.self === undefined ? {} : { self: as.self }),
    signal: as.signal ?? new AbortController().signal,
    ...(severalNodes ? { peers: { nodeFile: 'this\nother\n' } } : {}),
  });
}

export function epilogue(place: Place, jobId: string): Promise<boolean> {
  return endGuest({
    state: place.config.state,
    hook: { ...hook(place, jobId), exitStatus: 0 },
    openHypervisor: () => place.hypervisor,
    log: NO_LOG,
  });
}

export function reaper({ config, hypervisor }: Place): Promise<ReapReport> {
  return reap({
    state: config.state,
    leaseDirectories: [join(config.state, 'leases')],
    openHypervisor: () => hypervisor,
    askServer: async () => undefined,
    dryRun: false,
    log: NO_LOG,
  });
}

/** @param onSignal as of runJob */
export function starter(
  place: Place,
  jobId: string,
  onSignal: Parameters<typeof runJob>[0]['onSignal'] = () => undefined,
): Promise<number> {
  const nowhere = () => new Writable({ write: (_chunk, _encoding, done) => done() });
  return runJob({
    state: place.config.state,
    jobId,
    shell: '/bin/sh',
    line: momFile(place, jobId, 'SC'),
    environment: { PBS_JOBID: jobId },
    stdout: nowhere(),
    stderr: nowhere(),
    onSignal,
    umask: 0o77,
    limits: [],
  });
}

/** What there is of a job, as paths. */
export function thingsOf({ directory, config }: Place, jobId: string): string[] {
  const { state } = config;
  const within = (folder: string, matches: (name: string, path: string) => boolean) =>
    namesIn(folder)
      .filter((name) => matches(name, join(folder, name)))
      .map((name) => join(folder, name));
  return [
    ...within(join(directory, 'hv'), (name) => name === `vmbatch-${jobId}`),
    ...namesIn(jobPaths(state, jobId).directory).map((name) => join(jobPaths(state, jobId).directory, name)),
    ...within(join(state, 'sessions'), (name) => name === jobId),
    ...within(join(state, 'leases'), (_, path) => readFileSync(path, 'utf8').includes(`"${jobId}"`)),
    ...within(config.readyDirectory, (name) => name.startsWith(`${jobId}.`)),
  ].sort();
}

/** Everything that jobs may leave, of any job. */
export function leftovers({ directory, config }: Place): string[] {
  const { state } = config;
  const folders = ['jobs', 'sessions', 'leases', 'starts', 'claims'].map((name) => join(state, name));
  return [
    ...[join(directory, 'hv'), config.readyDirectory, ...folders].flatMap((folder) =>
      namesIn(folder).map((name) => join(folder, name)),
    ),
    ...namesIn(state)
      .filter((name) => name.endsWith('.tmp'))
      .map((name) => join(state, name)),
  ].map((path) => path.slice(directory.length + 1));
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
