// A worker node in a directory, with fake guests and the hooks as installed: what an admin sees who sets it
// up. There is no batch system; hooks are started as a mom would.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { stringify } from 'yaml';
import type { CheckResult } from '../../src/util/check.ts';
import type { RunResult } from '../../src/util/processes/run.ts';
import { nodeConfiguration, QUEUE } from '../site/configuration.ts';
import { copyDist } from '../site/directory.ts';
import { installFakeHypervisor } from '../site/fake-hypervisor.ts';
import { killGuestProcesses } from '../site/guests.ts';
import { runSheltered } from '../site/sheltered.ts';
import { NOBODY } from '../support/fake-hooks.ts';
import { firstFinding } from './findings.ts';
import type { Sight } from './table.ts';

const DIST = join(import.meta.dirname, '../../dist');
const USUAL_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface NodeGround {
  directory: string;
  /** Absolute path of a file below the directory. */
  at(name: string): string;
  write(name: string, text: string, mode?: number): void;
  remove(name: string): void;
  /** Replaces text in a file; it must be there. */
  edit(name: string, from: string | RegExp, to: string): void;
  /** Replaces parts of the node file; what is not named stays. */
  configure(changes: Record<string, unknown>): void;
  /** PATH of the mom, and of its hooks. */
  path: string;
  /** Runs the program as an admin of the node would.
   * @param as another account than root */
  vmbatch(words: readonly string[], as?: { uid: number; gid: number }): Promise<RunResult>;
  /** Starts the prologue of a job as a mom does. */
  prologue(jobId: string, script?: string): Promise<RunResult>;
  serverName: string;
}

/** Makes the node before the tests of a file, and puts all of it back before each.
 * @param name of its directory; another for each file */
export function useNode(name: string): () => NodeGround {
  let node: NodeGround | undefined;
  let template: string;
  beforeAll(async () => {
    const directory = mkdtempSync(`/var/tmp/vmbatch-mistakes-${name}-`);
    chmodSync(directory, 0o755);
    node = await makeNode(directory, name);
    template = `${directory}.template`;
    copy(directory, template);
  }, 60_000);
  beforeEach(() => {
    const { directory } = theNode();
    rmSync(directory, { recursive: true, force: true });
    copy(template, directory);
  });
  afterEach(async () => {
    await killGuestProcesses(theNode().serverName);
  });
  afterAll(() => {
    for (const path of [template, node?.directory]) if (path !== undefined) rmSync(path, { recursive: true });
  });
  const theNode = () => {
    if (node === undefined) throw new Error('the node was not made');
    return node;
  };
  return theNode;
}

/** With all modes and times; the program itself need not be copied each time, and is not if nothing may write
 * there. */
const copy = (from: string, to: string) => execFileSync('cp', ['-a', from, to]);

async function makeNode(directory: string, name: string): Promise<NodeGround> {
  const at = (file: string) => join(directory, file);
  const serverName = `mistakes-${name}-${process.pid}`;
  await copyDist(DIST, at('dist'));
  const fake = await installFakeHypervisor(at('fake'), at('dist'), undefined);
  for (const folder of ['share', 'share/.vmbatch', 'state', 'mom_priv', 'mom_priv/jobs'])
    mkdirSync(at(folder), { mode: folder === 'state' ? 0o711 : 0o755 });
  mkdirSync(at('share/.vmbatch/ready'));
  chmodSync(at('share/.vmbatch/ready'), 0o1777);
  const configuration = nodeConfiguration(
    { share: at('share'), state: at('state'), log: at('log') },
    {
      ...{ queues: [QUEUE], demo: undefined, fake: fake.image, libvirtUri: 'qemu:///fake' },
      ...{ nfsPort: 2049, addressing: 'dhcp' },
    },
  );
  const write = (file: string, text: string, mode = 0o644) => {
    mkdirSync(dirname(at(file)), { recursive: true });
    writeFileSync(at(file), text);
    chmodSync(at(file), mode);
  };
  const configure = (changes: Record<string, unknown>) =>
    write('node.yaml', stringify({ ...configuration, ...changes }));
  configure({});
  write('mom_priv/config', `$pbsserver localhost\n$job_starter ${at('job-starter')}\n$prologalarm 300\n`);
  const vmbatch: NodeGround['vmbatch'] = (words, as) => {
    const become =
      as === undefined ? [] : ['setpriv', `--reuid=${as.uid}`, `--regid=${as.gid}`, '--clear-groups', '--'];
    const [file = '', ...args] = [...become, at('dist/vmbatch'), ...words];
    return runSheltered(file, args, { cwd: '/', env: { PATH: node.path, HOME: '/root' } });
  };
  const node: NodeGround = {
    directory,
    at,
    write,
    configure,
    vmbatch,
    serverName,
    path: `${fake.binDir}:${USUAL_PATH}`,
    remove: (file) => rmSync(at(file), { recursive: true }),
    edit: (file, from, to) => {
      const text = readFileSync(at(file), 'utf8');
      const edited = text.replace(from, to);
      if (edited === text) throw new Error(`${file} has no ${from}`);
      writeFileSync(at(file), edited);
    },
    prologue: (jobId, script = '#!/bin/sh\ntrue\n') => {
      const file = `mom_priv/jobs/${jobId}.SC`;
      write(file, script, 0o700);
      write(`mom_priv/jobs/${jobId}.JB`, '');
      write(`aux/${jobId}`, 'wn1\n');
      chownSync(at(file), NOBODY.uid, NOBODY.gid);
      const words = [jobId, NOBODY.name, 'nogroup', 'job', 'nodes=1:ppn=1,walltime=01:00:00', QUEUE, ''];
      return runSheltered(at('mom_priv/prologue'), [...words, at(file)], {
        cwd: at('mom_priv'),
        env: {
          PATH: node.path,
          PBS_MSHOST: 'wn1',
          PBS_NODEFILE: at(`aux/${jobId}`),
          PBS_NUM_PPN: '1',
          PBS_NUM_NODES: '1',
        },
      });
    },
  };
  const words = ['hooks', 'install', '--config', at('node.yaml'), '--mom-dir', at('mom_priv')];
  const installed = await vmbatch([...words, '--job-starter', at('job-starter')]);
  if (installed.exitCode !== 0) throw new Error(installed.stderr);
  return node;
}

/** `vmbatch check node`, run by root. */
export async function checkTheNode(node: NodeGround): Promise<Sight> {
  const words = ['check', 'node', '--json', '--config', node.at('node.yaml')];
  const { stdout, stderr, exitCode } = await node.vmbatch([...words, '--mom-dir', node.at('mom_priv')]);
  if (!stdout.startsWith('{')) return { where: 'check node', text: stderr, exit: exitCode };
  const { results } = JSON.parse(stdout) as { results: CheckResult[] };
  return { ...firstFinding('check node', results), exit: exitCode };
}

/** The first line of vmbatch.log that tells of something wrong, after a job was to start here; the exit code
 * is the prologue's. */
export function logOfAStart(script?: string): (node: NodeGround) => Promise<Sight> {
  return async (node) => {
    const { exitCode, stderr } = await node.prologue(`1.${node.serverName}`, script);
    const log = node.at('log/vmbatch.log');
    const lines = existsSync(log) ? readFileSync(log, 'utf8').split('\n') : [];
    const wrong = lines.find((line) => /^\S+ (error|warn) /.test(line));
    return wrong === undefined
      ? { where: 'in no log', text: stderr, exit: exitCode }
      : { where: 'vmbatch.log', text: wrong, exit: exitCode };
  };
}

/** What a command says to an admin: on stderr, else on stdout. */
export function says(...words: readonly string[]): (node: NodeGround) => Promise<Sight> {
  return (node) => said(node, words);
}

/** The same, where somebody who is not root gives the command. */
export function saysToUser(...words: readonly string[]): (node: NodeGround) => Promise<Sight> {
  return (node) => said(node, words, NOBODY);
}

async function said(
  node: NodeGround,
  words: readonly string[],
  as?: { uid: number; gid: number },
): Promise<Sight> {
  const given = words.includes('--config') ? [] : ['--config', node.at('node.yaml')];
  const { stdout, stderr, exitCode } = await node.vmbatch([...words, ...given], as);
  return { where: words.slice(0, 2).join(' '), text: stderr.trim() || stdout, exit: exitCode };
}
