// Guests of every kind through prologue and epilogue, with real files and a hypervisor that only remembers
// names.
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { sessionPaths } from '../../../../src/guest/session/session-file.ts';
import { runJob } from '../../../../src/node/life/run.ts';
import { jobPaths, readRecord } from '../../../../src/node/record.ts';
import { NOBODY } from '../../../support/fake-hooks.ts';
import { type FakeNode, fakeNode, leftOn } from '../../../support/fake-node.ts';

let node: FakeNode;
afterEach(() => node.remove());

const JOB = '7.server';
const file = (id: string, name: 'domainXml' | 'contextIso') =>
  readFileSync(jobPaths(node.config.state, id)[name], 'latin1');
const session = (id: string) => JSON.parse(readFileSync(sessionPaths(node.config.state, id).session, 'utf8'));

describe.runIf(process.getuid?.() === 0)('a guest with', () => {
  it('a scratch disk gets one of the size that the job asked for, and it is gone with the guest', async () => {
    node = await fakeNode('disk: { free_floor: 0 MiB, scratch: { maximum: 1 GiB } }');
    node.script('#!/bin/sh\n#VMBATCH scratch=64MiB\n');
    await node.start(JOB);
    expect(statSync(jobPaths(node.config.state, JOB).scratch)).toMatchObject({
      size: 64 * 1024 ** 2,
      blocks: 0,
    });
    expect(file(JOB, 'domainXml')).toMatch(/<target dev="vdb".*\n *<serial>vmbatch-scratch/);
    expect(file(JOB, 'contextIso')).toContain("VMBATCH_SCRATCH='/scratch'");
    expect(session(JOB).environment['VMBATCH_SCRATCH']).toBe('/scratch');
    expect(readRecord(jobPaths(node.config.state, JOB))?.space).toEqual({
      bytes: 64 * 1024 ** 2,
      granted: true,
    });
    await node.end(JOB);
    expect(leftOn(node, JOB)).toEqual([]);
  });

  it('a cache disk hands it to the next guest of the account, eight times, and two at once have two', async () => {
    node = await fakeNode('disk: { free_floor: 0 MiB, cache: 64 MiB }');
    for (let guest = 1; guest <= 8; guest++) {
      await node.start(`${guest}.server`);
      expect(file(`${guest}.server`, 'domainXml')).toContain('/cache/demo@65534-0.raw');
      await node.end(`${guest}.server`);
    }
    await node.start('9.server');
    await node.start('10.server');
    expect(file('10.server', 'domainXml')).toContain('/cache/demo@65534-1.raw');
    await node.end('9.server');
    await node.end('10.server');
    expect(readdirSync(join(node.config.state, 'cache')).sort()).toEqual([
      'demo@65534-0.raw',
      'demo@65534-1.raw',
    ]);
    expect(leftOn(node, '10.server')).toEqual([]);
  }, 60_000);

  it('a static address has it in its context, its domain and its session, and gives it back', async () => {
    node = await fakeNode(`network:
  type: bridge
  name: br0
  addressing: static
  prefix_length: 24
  pool: [{ address: 192.0.2.10, mac: "52:54:00:00:00:10", hostname: vm10.example.org }]
`);
    await node.start(JOB);
    expect(file(JOB, 'contextIso')).toContain("VMBATCH_ADDRESS='192.0.2.10/24'");
    expect(file(JOB, 'contextIso')).toContain("VMBATCH_HOSTNAME='vm10.example.org'");
    expect(file(JOB, 'domainXml')).toMatch(
      /52:54:00:00:00:10[\s\S]*<parameter name="IP" value="192\.0\.2\.10"/,
    );
    expect(session(JOB)).toMatchObject({ host: '192.0.2.10', port: 22 });
    await expect(node.start('8.server')).rejects.toMatchObject({ fault: 'node', code: 'pool-exhausted' });
    await node.end(JOB);
    expect(leftOn(node, JOB)).toEqual([]);
    await node.start('8.server');
    expect(session('8.server').host).toBe('192.0.2.10');
  });

  it('DHCP on a bridge is reached where it says that it is', async () => {
    node = await fakeNode('network: { type: bridge, name: br0 }');
    await node.start(JOB);
    expect(session(JOB)).toMatchObject({ host: '10.0.2.15', port: 22 });
    expect(readdirSync(join(node.config.state, 'leases'))).toEqual([expect.stringMatching(/^mac-52-54-/)]);
    await node.end(JOB);
    expect(leftOn(node, JOB)).toEqual([]);
  });

  it('DHCP that says it has an address of the node gets no job', async () => {
    node = await fakeNode('network: { type: bridge, name: br0 }');
    node.guestAddress = '127.0.0.1';
    await expect(node.start(JOB)).rejects.toMatchObject({ fault: 'node', code: 'address-refused' });
    expect(leftOn(node, JOB)).toEqual([]);
  });

  it('a node of prologue_mode started is left to the job starter as soon as its domain runs', async () => {
    node = await fakeNode('prologue_mode: started');
    node.guestBehaviour = 'silent';
    await node.start(JOB);
    expect(session(JOB).awaited).toMatchObject({
      addressUnknown: false,
      readyFile: expect.stringContaining(JOB),
    });
    expect(readRecord(jobPaths(node.config.state, JOB))?.steps).not.toHaveProperty('boot');
    await node.end(JOB);
    expect(leftOn(node, JOB)).toEqual([]);
  });

  it('a guest of prologue_mode started that misses its CernVM-FS says so in the log at its end', async () => {
    node = await fakeNode('prologue_mode: started\ntimeouts: { ssh_connect: 1 s }');
    node.guestBehaviour = 'notes';
    await node.start(JOB);
    expect(node.logged.join()).not.toContain('alice.cern.ch');
    // The starter is the job's user. Nothing listens where the guest should.
    vi.spyOn(process, 'getuid').mockReturnValue(NOBODY.uid);
    const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
    const ran = await runJob({
      ...{ state: node.config.state, jobId: JOB, shell: '/bin/sh', environment: { PBS_JOBID: JOB } },
      ...{ line: join(node.directory, `jobs/${JOB}.SC`), stdout: nowhere, stderr: nowhere },
      ...{ onSignal: () => undefined, umask: 0o77, limits: [] },
    });
    vi.restoreAllMocks();
    expect(ran).toBe(251);
    await node.end(JOB);
    expect(node.logged.join('\n')).toMatch(
      /^warn: the guest was ready, but said: repository alice\.cern\.ch is not mounted: [ -~¦]*no proxy$/m,
    );
    expect(leftOn(node, JOB)).toEqual([]);
  });

  it('site hooks and CernVM-FS settings finds them in its context', async () => {
    node = await fakeNode(
      `cvmfs: { repositories: [alice.cern.ch], proxy: "http://squid:3128;DIRECT" }\ncontext: { before_job: /etc/hostname }\n`,
    );
    await node.start(JOB);
    const iso = file(JOB, 'contextIso');
    expect(iso).toContain("VMBATCH_REPOSITORIES='alice.cern.ch'");
    expect(iso).toContain("VMBATCH_BEFORE_JOB='1'");
    expect(iso).toContain("VMBATCH_CVMFS_PROXY='http://squid:3128;DIRECT'");
    expect(iso).toMatch(/VMBATCH_JOB_FEATURES='job_id=7\.server allocated_cpu=1 .*wall_limit_secs=3600/);
    await node.end(JOB);
  });

  it('a share that is not there is not started at all', async () => {
    node = await fakeNode('');
    rmSync(node.config.share.path, { recursive: true });
    await expect(node.start(JOB)).rejects.toMatchObject({ fault: 'node', code: 'share-stale' });
    expect(existsSync(jobPaths(node.config.state, JOB).directory)).toBe(false);
    expect([...node.domains]).toEqual([]);
  });
});
