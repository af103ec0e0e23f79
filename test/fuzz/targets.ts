// Every parser of foreign text, each with examples that it understands: what the fuzzer starts from.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAssignments } from '../../src/arc/assignments.ts';
import { parseArcConfiguration } from '../../src/arc/configuration/configuration.ts';
import { diagExitCode, mergeDiag, parseDiag, renderDiag } from '../../src/arc/diag.ts';
import { parseGrami } from '../../src/arc/grami.ts';
import { localIdOf, parseLocal } from '../../src/arc/local.ts';
import { JobElements } from '../../src/batch/torque/answers/job-elements.ts';
import { parsePbsnodes } from '../../src/batch/torque/answers/pbsnodes.ts';
import { parseQstatJobs } from '../../src/batch/torque/answers/qstat.ts';
import { parseAttributeLists } from '../../src/batch/torque/answers/queues.ts';
import {
  parseEpilogueArguments,
  parsePrologueArguments,
  wallSecondsOf,
} from '../../src/batch/torque/mom/hook-arguments.ts';
import { hookLimitMs, readMomConfig } from '../../src/batch/torque/mom/mom-config.ts';
import { requestedSlots } from '../../src/batch/torque/node-request.ts';
import { findLogEvents } from '../../src/batch/torque/server-log/server-log.ts';
import { parseDuration, parseExecHost, parseSize } from '../../src/batch/torque/units.ts';
import { lastWordsOf, refusalOf } from '../../src/ce/finish/outcome.ts';
import { parseInformationRequest } from '../../src/ce/info/request.ts';
import { readState } from '../../src/ce/scan/state.ts';
import { parseGuestRequest } from '../../src/guest/grant.ts';
import { listLeases } from '../../src/guest/network/lease.ts';
import { nodesOf } from '../../src/guest/peers.ts';
import { parseReadyReport } from '../../src/guest/ready/ready.ts';
import { readOutcome, readSession, sessionPaths } from '../../src/guest/session/session-file.ts';
import { parseDomainCapabilities } from '../../src/hypervisor/capabilities.ts';
import { parseCpus } from '../../src/hypervisor/cpus.ts';
import { openVirsh } from '../../src/hypervisor/virsh.ts';
import { withImage, withoutImage } from '../../src/image/catalogue/edit.ts';
import { verifySignature } from '../../src/image/catalogue/signature.ts';
import { listTickets } from '../../src/node/admission/turn.ts';
import { readGuard } from '../../src/node/guard/state.ts';
import { jobPaths, prepareState, readRecord } from '../../src/node/record.ts';
import { parseNodeConfig } from '../../src/node-file/read.ts';
import { makeDirectory } from '../../src/util/files/files.ts';
import type { Run } from '../../src/util/processes/run.ts';
import { readIso } from '../unit/context/iso-reader.ts';

export interface Target {
  name: string;
  /** Whose text it is. */
  from: string;
  examples: () => Buffer[];
  /** May throw what vmbatch throws on purpose, and nothing else. */
  parse: (input: Buffer) => unknown;
}

/** The fixtures are of the checkout; the bundle runs elsewhere. */
const fixtures = (...names: string[]) =>
  names.map((name) => readFileSync(join(process.cwd(), 'test/fixtures', name)));
const texts = (...all: string[]) => all.map((text) => Buffer.from(text));
const latin1 = (input: Buffer) => input.toString('latin1');

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0000000000000000000000000000000000000000000';
const READY = JSON.stringify({
  ...{ version: 1, jobId: '1.x', nonce: 'n', address: '10.0.2.15', port: 22, hostKey: KEY },
  ...{ hostname: 'guest', kernel: '6.1', bootId: '8aede550-7ca6-4a39-9015-419db29584d0', vcpus: 1 },
  ...{ memoryKiB: 222_608, system: 'a test' },
});
const RECORD = JSON.stringify({
  ...{ version: 1, jobId: '1.x', user: 'u', uid: 1, gid: 1, queue: 'q', uri: 'qemu:///system', undoMs: 1 },
  ...{
    domain: 'vmbatch-1.x',
    nonce: 'n',
    readyFile: '/r',
    startedAt: 1,
    prologue: { pid: 1, startTicks: 1 },
  },
  ...{ steps: { network: 'held' }, seconds: {} },
});
const GUARD = JSON.stringify({
  version: 1,
  faults: [{ jobId: '1.x', code: 'image-absent', message: 'm', at: 1 }],
  offline: { since: 1, reason: 'r', by: 'guard', mark: 'set' },
});
const ARC_CONF = `[common]\nhostname=ce\n[lrms]\nlrms=vmbatch vmalice\npbs_bin_path=/usr/bin\n[arex]\ncontroldir=/c\n[queue:vmalice]\ncomment=x\n[custom:vmbatch]\nimage=demo\nqueue_limits=2\n`;

/** Hands the input to `parse` as a file, in a directory of its own. */
function asFile(name: string, parse: (directory: string) => unknown): (input: Buffer) => Promise<unknown> {
  return async (input) => {
    const directory = mkdtempSync(join(tmpdir(), 'vmbatch-fuzz-'));
    try {
      writeFileSync(join(directory, name), input);
      return await parse(directory);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  };
}

/** A virsh that says this, whatever it is asked. */
function virshSaying(input: Buffer) {
  const ended = { signal: undefined, timedOut: false, cancelled: false, notFound: false, seconds: 0 };
  const run: Run = async (command) => ({
    ...{ command, exitCode: 0, stdout: input.toString('utf8'), stderr: '' },
    ...ended,
  });
  return openVirsh({ uri: 'qemu:///system', timeoutMs: 1000, run });
}

export const TARGETS: readonly Target[] = [
  {
    name: 'grami',
    from: 'A-REX, and through it the job’s owner',
    examples: () => fixtures('arc/full.grami', 'arc/jalien.grami', 'arc/tricky.grami', 'arc/fail.grami'),
    parse: (input) => {
      parseAssignments(latin1(input), 'f');
      return parseGrami(latin1(input), 'job.f.grami');
    },
  },
  {
    name: 'local',
    from: 'A-REX',
    examples: () => fixtures('arc/tricky.local'),
    parse: (input) => [parseLocal(latin1(input)), localIdOf(latin1(input))],
  },
  {
    name: 'diag',
    from: 'the job',
    examples: () => texts('nodename=wn1\nexitcode=0\nWallTime=3s\nLRMSMessage=no shell\n'),
    parse: (input) => {
      const diag = parseDiag(latin1(input));
      diagExitCode(diag);
      return renderDiag(mergeDiag(diag, diag, diag));
    },
  },
  {
    name: 'comment',
    from: 'the job',
    examples: () => texts('vmbatch: node fault: x\n=>> PBS: job killed\nTerminated\n'),
    parse: (input) => [lastWordsOf(input.toString('utf8')), refusalOf(latin1(input))],
  },
  {
    name: 'arc.conf',
    from: 'the admin, through A-REX',
    examples: () => texts(ARC_CONF),
    parse: (input) => parseArcConfiguration(latin1(input), 'arc.conf'),
  },
  {
    name: 'node file',
    from: 'the admin',
    examples: () => [readFileSync(join(process.cwd(), 'share/examples/node.yaml'))],
    parse: (input) => {
      const text = input.toString('utf8');
      withoutImage(text, 'node.yaml', 'demo');
      withImage(text, 'node.yaml', 'new', { path: '/i', format: 'raw' });
      return parseNodeConfig(text, 'node.yaml');
    },
  },
  {
    name: 'job script',
    from: 'the job’s owner',
    examples: () =>
      texts('#!/bin/sh\n#VMBATCH image=demo\n#VMBATCH memory=2GiB vcpus=2\n#VMBATCH scratch=1GiB\ntrue\n'),
    parse: (input) => parseGuestRequest(latin1(input), 'the script'),
  },
  {
    name: 'hook arguments',
    from: 'the mom, and through it the job’s owner',
    examples: () =>
      texts('112.vm\0alice\0alice\0job\0nodes=1:ppn=2,walltime=01:00:00\0vmalice\0\0/jobs/112.vm.SC'),
    parse: (input) => {
      const words = latin1(input).split('\0');
      wallSecondsOf(latin1(input));
      return words.length > 8 ? parseEpilogueArguments(words) : parsePrologueArguments(words);
    },
  },
  {
    name: 'mom configuration',
    from: 'the admin',
    examples: () => texts('$prologalarm 300\n$job_starter /usr/lib/x\n'),
    parse: asFile('config', (directory) => hookLimitMs(readMomConfig(join(directory, 'config')))),
  },
  {
    name: 'qstat -x',
    from: 'the batch server, and through it jobs’ owners',
    examples: () =>
      fixtures('torque/qstat-x.mixed.xml', 'torque/qstat-f-x.mixed.xml', 'torque/qstat-f-x.one-running.xml'),
    parse: (input) => {
      const elements = new JobElements((raw) => raw.text('mem', 'resources_used'));
      // As a pipe hands it over.
      for (let at = 0; at < input.length; at += 4096) elements.add(input.subarray(at, at + 4096));
      elements.end();
      return parseQstatJobs(input.toString('utf8'));
    },
  },
  {
    name: 'qstat -Q -f',
    from: 'the batch server',
    examples: () => fixtures('torque/qstat-Q-f.txt', 'torque/qstat-B-f.txt'),
    parse: (input) => [
      parseAttributeLists(input.toString('utf8'), 'Queue'),
      parseAttributeLists(input.toString('utf8'), 'Server'),
    ],
  },
  {
    name: 'pbsnodes -x',
    from: 'the batch server',
    examples: () => fixtures('torque/pbsnodes-x.one-running.xml', 'torque/pbsnodes-x.offline.xml'),
    parse: (input) => parsePbsnodes(input.toString('utf8')),
  },
  {
    name: 'server log',
    from: 'the batch server, and through it jobs’ owners',
    examples: () => fixtures('torque/server_log.mixed.txt', 'torque/server_log.qdel-during-prologue.txt'),
    parse: (input) => findLogEvents(input),
  },
  {
    name: 'units',
    from: 'the batch server',
    examples: () => texts('01:30:00', '512mb', 'vm/0-3+vm2/1,3', '2:ppn=4+1:ppn=2', '0-3,7'),
    parse: (input) => {
      const text = latin1(input);
      return [
        parseDuration(text),
        parseSize(text),
        parseExecHost(text),
        requestedSlots(text),
        parseCpus(text),
      ];
    },
  },
  {
    name: 'node list of a job',
    from: 'the mom',
    examples: () => texts('wn1\nwn1\nwn2\n'),
    parse: (input) => nodesOf(latin1(input)),
  },
  {
    name: 'virsh',
    from: 'libvirt, and through it guests',
    examples: () =>
      texts(
        ' vnet0      52:54:00:6b:3c:58    ipv4         192.0.2.7/24\n',
        'vmbatch-1.x\nother\n',
        '{"return":{"ready":1}}',
        ' UUID  Name\n 00000000-1111-2222-3333-444444444444   clean-traffic\n',
      ),
    parse: async (input) => {
      const virsh = virshSaying(input);
      await virsh.list();
      await virsh.describe('x');
      await virsh.addresses('x', 'arp');
      await virsh.filters();
      await virsh.state('vmbatch-1.server');
      return virsh.agent('x', {}, 100);
    },
  },
  {
    name: 'domain capabilities',
    from: 'libvirt',
    examples: () =>
      texts(
        '<domainCapabilities><domain>kvm</domain><machine>pc</machine><cpu><mode name="host-model" supported="yes"/></cpu></domainCapabilities>',
      ),
    parse: (input) => parseDomainCapabilities(input.toString('utf8')),
  },
  {
    name: 'ready file',
    from: 'the guest',
    examples: () => texts(READY, JSON.stringify({ version: 1, jobId: '1.x', nonce: 'n', error: 'no share' })),
    parse: (input) => parseReadyReport(input, 'ready file', { jobId: '1.x', nonce: 'n', hostKey: KEY }),
  },
  {
    name: 'outcome and session',
    from: 'the job’s user',
    examples: () =>
      texts('{"version":1,"exitCode":3}', '{"version":1,"fault":"node","message":"m","code":"c"}'),
    parse: (input) => {
      const state = mkdtempSync(join(tmpdir(), 'vmbatch-fuzz-'));
      try {
        const paths = sessionPaths(state, '1.x');
        prepareState(state);
        makeDirectory(paths.directory, 0o700);
        writeFileSync(paths.outcome, input);
        writeFileSync(paths.session, input);
        readOutcome(paths, process.getuid?.() ?? 0);
        return readSession(paths, '1.x');
      } finally {
        rmSync(state, { recursive: true, force: true });
      }
    },
  },
  {
    name: 'record, guard, leases and tickets',
    from: 'a disk after a power cut',
    examples: () => texts(RECORD, GUARD, JSON.stringify({ jobId: '1.x', node: 'n', since: 1 })),
    parse: (input) => {
      const state = mkdtempSync(join(tmpdir(), 'vmbatch-fuzz-'));
      try {
        prepareState(state);
        makeDirectory(join(state, 'starts'), 0o700);
        makeDirectory(jobPaths(state, '1.x').directory, 0o711);
        for (const name of [
          'guard.json',
          'leases/port-22001',
          'starts/000000000001000-1.x',
          'jobs/1.x/record.json',
        ])
          writeFileSync(join(state, name), input);
        readGuard(state);
        listLeases(join(state, 'leases'));
        listTickets(state);
        return readRecord(jobPaths(state, '1.x'));
      } finally {
        rmSync(state, { recursive: true, force: true });
      }
    },
  },
  {
    name: 'state of the scan',
    from: 'a disk after a power cut',
    examples: () => texts('{"version":1,"jobs":[["id","1.x",1,1]],"log":[]}'),
    parse: asFile('vmbatch-scan.state', (directory) => readState(directory, () => undefined)),
  },
  {
    name: 'request for information',
    from: 'ARC’s information system',
    examples: () => texts('{"queues":{"q":{"users":["alice"],"totalcpus":"8"}},"jobs":["112.vm"]}'),
    parse: (input) => parseInformationRequest(input.toString('utf8')),
  },
  {
    name: 'signature of an image',
    from: 'who made the image',
    examples: () => [Buffer.alloc(70_000, '{"certificate":"AAAA","signature":"AAAA"}\n')],
    parse: asFile('image', (directory) =>
      verifySignature(join(directory, 'image'), { caDirectory: directory, signer: 'x' }),
    ),
  },
  {
    name: 'context disk (reader of the tests)',
    from: 'ourselves',
    examples: () => texts('CD001'),
    parse: (input) => {
      try {
        return readIso(input, 'rock-ridge');
      } catch (error) {
        // It asserts what an image of ours must be; what is none is refused in words of its own.
        return error;
      }
    },
  },
];
