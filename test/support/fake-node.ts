// A worker node without virtual machines: real files, a hypervisor that only remembers names, and guests that
// do nothing but write their ready file, from what their ISO says.

import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sessionPaths } from '../../src/guest/session/session-file.ts';
import type { DomainState, Hypervisor } from '../../src/hypervisor/port.ts';
import { type EpilogueOptions, endGuest } from '../../src/node/life/end.ts';
import { startGuest } from '../../src/node/life/start.ts';
import { type ReapOptions, type ReapReport, reap } from '../../src/node/reap/reap.ts';
import { jobPaths } from '../../src/node/record.ts';
import { type NodeConfig, parseNodeConfig } from '../../src/node-file/read.ts';
import { findAccount } from '../../src/util/accounts/account.ts';
import type { ErrorCode } from '../../src/util/error-codes.ts';
import { VmbatchError } from '../../src/util/errors.ts';
import type { Log } from '../../src/util/log.ts';
import { writeReady } from './fake-guest.ts';
import { hookArguments, NOBODY, USUAL_START } from './fake-hooks.ts';

export interface FakeNode {
  directory: string;
  config: NodeConfig;
  /** Names of the domains that "run". */
  domains: Set<string>;
  logged: string[];
  /** What the next guest does instead of getting ready. */
  guestBehaviour: 'ready' | 'notes' | 'silent' | 'fails' | 'other-host-key' | 'refused' | 'unreachable';
  /** What the next guest says that its address is. */
  guestAddress: string;
  /** What the hypervisor says of each domain. */
  domainState: DomainState;
  /** Called when a domain was just created. */
  onCreate: () => void;
  script(text: string): void;
  start(jobId: string, options?: { signal?: AbortSignal; peers?: { nodeFile: string } }): Promise<unknown>;
  /** @param options `isUnused`: the mom has not called the job starter */
  end(
    jobId: string,
    options?: Partial<EpilogueOptions> & { exitStatus?: number; isUnused?: boolean },
  ): Promise<boolean>;
  /** The mom does not know the job any more. */
  forget(jobId: string): void;
  reap(options?: Partial<ReapOptions>): Promise<ReapReport>;
  remove(): void;
  hypervisor: Hypervisor;
}

export async function fakeNode(changes = ''): Promise<FakeNode> {
  const directory = mkdtempSync(join(tmpdir(), 'vmbatch-node-'));
  chmodSync(directory, 0o755);
  const share = join(directory, 'share');
  mkdirSync(share);
  writeFileSync(join(directory, 'template.qcow2'), Buffer.from('514649fb00000003', 'hex'));
  const text = `queues: [vmalice]
state: ${directory}/state
log: ${directory}/log
hypervisor: { type: qemu }
images:
  demo: { path: ${directory}/template.qcow2, memory: { default: 256 MiB, maximum: 1 GiB } }
  gone: { path: ${directory}/gone.qcow2 }
  text: { path: ${directory}/text.qcow2 }
default_image: demo
share: { type: nfs, server: "10.0.2.2:/share", path: ${share} }
${changes}`;
  writeFileSync(join(directory, 'text.qcow2'), 'this is no image');
  const account = await findAccount(NOBODY.name);
  let script = '#!/bin/sh\necho hello\n';
  // As the mom has them: a script and a file of its own for each job that it knows.
  const jobs = join(directory, 'jobs');
  mkdirSync(jobs);
  const momFile = (jobId: string, ending: string) => join(jobs, `${jobId}.${ending}`);

  const logged: string[] = [];
  const log: Log = {
    write: (level, message) => logged.push(`${level}: ${message}`),
    close: async () => undefined,
  };
  const hook = (jobId: string) => hookArguments(jobId, momFile(jobId, 'SC'));
  const xmls = new Map<string, string>();
  const hypervisor: Hypervisor = {
    async create(xmlFile) {
      const refuse = (code: ErrorCode) =>
        new VmbatchError({ fault: 'node', code, message: 'libvirt cannot be reached' });
      if (node.guestBehaviour === 'unreachable') throw refuse('hypervisor-unreachable');
      const xml = readFileSync(xmlFile, 'utf8');
      const name = /<name>(.*)<\/name>/.exec(xml)?.[1] ?? '';
      node.domains.add(name);
      xmls.set(name, xml);
      if (node.guestBehaviour === 'refused') throw refuse('hypervisor-refused');
      const iso = readFileSync(join(xmlFile, '../context.iso'), 'latin1');
      if (node.guestBehaviour !== 'silent') writeReady(iso, node.guestBehaviour, account, node.guestAddress);
      node.onCreate();
    },
    async destroy(name) {
      node.domains.delete(name);
    },
    list: async () => [...node.domains],
    describe: async (name) => (node.domains.has(name) ? (xmls.get(name) ?? '<domain/>') : undefined),
    state: async (name) => (node.domains.has(name) ? node.domainState : undefined),
    addresses: async () => [],
    agent: async () => undefined,
    filters: async () => ['clean-traffic'],
  };
  const node: FakeNode = {
    directory,
    config: parseNodeConfig(text, 'node.yaml'),
    domains: new Set(),
    logged,
    guestBehaviour: 'ready',
    guestAddress: '10.0.2.15',
    domainState: { state: 'running', reason: 'booted', diskErrors: [] },
    onCreate: () => undefined,
    script: (text) => {
      script = text;
    },
    forget: (jobId) => {
      for (const ending of ['SC', 'JB']) rmSync(momFile(jobId, ending), { force: true });
    },
    reap: (options = {}) =>
      reap({
        state: node.config.state,
        leaseDirectories: [join(node.config.state, 'leases')],
        openHypervisor: () => hypervisor,
        askServer: async () => undefined,
        dryRun: false,
        log,
        ...options,
      }),
    start: (jobId, { signal = new AbortController().signal, peers } = {}) => {
      writeFileSync(momFile(jobId, 'SC'), script);
      chownSync(momFile(jobId, 'SC'), account.uid, account.gid);
      writeFileSync(momFile(jobId, 'JB'), '');
      return startGuest({
        config: node.config,
        hook: hook(jobId),
        ...USUAL_START,
        hypervisor,
        log,
        signal,
        peers,
      });
    },
    end: (jobId, { exitStatus = 0, isUnused = false, ...options } = {}) => {
      // What the job starter leaves as soon as it is called.
      const { outcome } = sessionPaths(node.config.state, jobId);
      if (!isUnused && existsSync(outcome) && statSync(outcome).size === 0)
        writeFileSync(outcome, '{"version":1}');
      return endGuest({
        state: node.config.state,
        hook: { ...hook(jobId), exitStatus },
        openHypervisor: () => hypervisor,
        log,
        ...options,
      });
    },
    hypervisor,
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
  return node;
}

/** Everything of jobs that exists on the node, as words. */
export function leftOn(node: FakeNode, jobId: string): string[] {
  const { config } = node;
  const paths = jobPaths(config.state, jobId);
  return [
    ...[...node.domains].map((name) => `domain ${name}`),
    ...[paths.directory, join(config.state, 'sessions', jobId)].filter((path) => existsSync(path)),
    ...filesIn(join(config.state, 'leases')),
    ...filesIn(config.readyDirectory),
  ];
}

function filesIn(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory).map((name) => join(directory, name)) : [];
}
