// A CE in a directory: arc.conf, ARC's folders, TORQUE's commands as small programs, A-REX's directories. All
// is as it should be; a test breaks one thing.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect } from 'vitest';
import { CE_CHECKS } from '../../../../src/ce/check/check-ce.ts';
import { type CeSiteOptions, openCeSite } from '../../../../src/ce/check/site.ts';
import { type CheckResult, type CheckState, runChecks } from '../../../../src/util/check.ts';

const REPOSITORY = join(import.meta.dirname, '../../../..');

export const isRoot = process.geteuid?.() === 0;

export interface FakeCe {
  directory: string;
  options: CeSiteOptions;
  /** Absolute path of a file of the CE. */
  at: (name: string) => string;
  write: (name: string, text: string, mode?: number) => void;
  remove: (name: string) => void;
  /** Replaces text in a file; it must be there. */
  edit: (name: string, from: string | RegExp, to: string) => void;
  /** What one row finds; the rows that it needs are run before. */
  look: (row: string) => Promise<CheckResult[]>;
  destroy: () => void;
}

const HOST = 'ce.example.org';
/** What a CE with ARC 7 publishes for JAliEn's search. */
const LDIF = `dn: GLUE2EndpointID=urn:ogf:ComputingEndpoint:${HOST}:rest:https://${HOST}/arex,o=glue
GLUE2EndpointID: urn:ogf:ComputingEndpoint:${HOST}:rest:https://${HOST}/arex
GLUE2EndpointURL: https://${HOST}/arex

dn: GLUE2ShareID=urn:ogf:ComputingShare:${HOST}:vmalice_alice,o=glue
GLUE2ShareID: urn:ogf:ComputingShare:${HOST}:vmalice_alice
GLUE2ComputingShareComputingEndpointForeignKey: urn:ogf:ComputingEndpoint:${HOST}:rest:https://${HOST}/arex
GLUE2ComputingShareRunningJobs: 12
GLUE2ComputingShareWaitingJobs: 3

dn: GLUE2PolicyID=urn:ogf:MappingPolicy:${HOST}:vmalice_alice,o=glue
GLUE2MappingPolicyShareForeignKey: urn:ogf:ComputingShare:${HOST}:vmalice_alice
`;

/** As TORQUE names its log. */
const today = () => execFileSync('date', ['+%Y%m%d'], { encoding: 'utf8' }).trim();

export function fakeCe(): FakeCe {
  const directory = mkdtempSync(join(tmpdir(), 'vmbatch-ce-'));
  chmodSync(directory, 0o755);
  const at = (name: string) => join(directory, name);
  const write = (name: string, text: string, mode = 0o644) => {
    mkdirSync(dirname(at(name)), { recursive: true });
    writeFileSync(at(name), text);
    chmodSync(at(name), mode);
  };
  const program = (name: string, text: string) => write(name, `#!/bin/sh\n${text}\n`, 0o755);
  const link = (target: string, name: string) => {
    mkdirSync(dirname(at(name)), { recursive: true });
    symlinkSync(target, at(name));
  };

  // The installation, and ARC's links to it.
  program('program/vmbatch', 'echo "vmbatch 1.2.3"');
  cpSync(join(REPOSITORY, 'arc-backend'), at('program/arc-backend'), { recursive: true });
  for (const name of ['submit-vmbatch-job', 'scan-vmbatch-job', 'cancel-vmbatch-job', 'VMBATCHmod.pm']) {
    // Whatever is installed on this machine is none of the test's business.
    const text = readFileSync(at(`program/arc-backend/${name}`), 'utf8');
    write(
      `program/arc-backend/${name}`,
      text.replaceAll('/usr/lib/vmbatch/vmbatch', at('packaged/vmbatch')),
      name.endsWith('.pm') ? 0o644 : 0o755,
    );
    link(at(`program/arc-backend/${name}`), `arc/share/arc/${name}`);
  }
  write('program/share/rte/ENV/VMBATCH', '# description: test\n');
  program('arc/lib/arc/gm-kick', 'exit 0');
  program('arc/lib/arc/arc-config-check', 'exit 0');

  program('bin/node', 'echo v20.19.0');
  for (const name of ['qsub', 'qdel']) program(`bin/${name}`, 'exit 0');
  program('bin/qstat', `case $1 in -B) cat ${at('server')} ;; -Q) cat ${at('queues')} ;; *) exit 2 ;; esac`);
  program('bin/ldapsearch', `cat ${at('ldif')}`);
  write('ldif', LDIF);
  program('bin/pbsnodes', `cat ${at('nodes')}`);
  write(
    'server',
    'Server: batch.example.org\n    server_state = Active\n    pbs_version = 6.1.3\n    keep_completed = 300\n' +
      '    disable_automatic_requeue = True\n\n',
  );
  write(
    'queues',
    'Queue: vmalice\n    queue_type = Execution\n    enabled = True\n    started = True\n\n' +
      'Queue: other\n    queue_type = Execution\n    enabled = True\n    started = True\n\n',
  );
  write(
    'nodes',
    '<Data><Node><name>n1</name><state>free</state><np>4</np><properties>vm,big</properties>' +
      `<status>opsys=linux,rectime=${Math.floor(Date.now() / 1000) - 20}</status></Node>` +
      '<Node><name>n2</name><state>down</state><np>4</np></Node></Data>\n',
  );
  write(`logs/${today()}`, 'a line\n');

  mkdirSync(at('control/processing'), { recursive: true });
  link(at('program/share/rte/ENV/VMBATCH'), 'control/rte/enabled/ENV/VMBATCH');
  mkdirSync(at('session'));
  // The kernel writes some signs as numbers.
  const mountPoint = at('session').replaceAll('-', '\\055');
  write('mounts', `/dev/vda1 / ext4 rw 0 0\nfiles:/grid ${mountPoint} nfs4 rw 0 0\n`);
  write('proc/1/cmdline', '/sbin/init\0');
  write('run/arex.pid', '42\n');
  write('proc/42/cmdline', ['/usr/sbin/arched', '-c', at('run/arex.cfg'), ''].join('\0'));
  write('proc/77/cmdline', ['node', '/x/vmbatch', 'scan', '--config', 'c', at('control'), ''].join('\0'));

  const arcConf = `[common]
hostname=ce.example.org

[mapping]
map_to_user=all ${isRoot ? 'nobody' : ''}

[lrms]
lrms=vmbatch vmalice
lrmsconfig=one guest a job
pbs_bin_path=${at('bin')}
pbs_log_path=${at('logs')}

[arex]
controldir=${at('control')}
sessiondir=${at('session')}
pidfile=${at('run/arex.pid')}

[infosys]
[infosys/ldap]
[infosys/glue2]

[queue:vmalice]
pbs_queue_node=vm
advertisedvo=alice

[custom:vmbatch]
image=demo
queue=vmalice max_vcpus=8
`;
  write('arc.conf', arcConf);
  // What A-REX makes of it has more in it.
  write('run/arex.cfg', arcConf.replace('[arex]', 'gnu_time=/usr/bin/time\n[arex]'));

  const options: CeSiteOptions = {
    file: at('arc.conf'),
    installation: at('program'),
    version: '1.2.3',
    environment: { ARC_LOCATION: at('arc') },
    // The machine may be busy.
    programMs: 15_000,
    deadlineMs: 19_000,
    system: {
      mounts: at('mounts'),
      exports: at('etab'),
      proc: at('proc'),
      servicePath: `${at('bin')}:/usr/bin:/bin`,
    },
  };
  return {
    directory,
    options,
    at,
    write,
    remove: (name) => rmSync(at(name), { recursive: true }),
    edit: (name, from, to) => {
      const text = readFileSync(at(name), 'utf8');
      const edited = text.replace(from, to);
      if (edited === text) throw new Error(`${name} has no ${from}`);
      writeFileSync(at(name), edited);
    },
    look: async (row) => {
      const over = new AbortController();
      const results = await runChecks(withNeeds(row), openCeSite(options, over.signal), 19_000);
      over.abort();
      return results.filter(({ check }) => check === row);
    },
    destroy: () => rmSync(directory, { recursive: true, force: true }),
  };
}

function withNeeds(name: string) {
  const wanted = new Set([name]);
  for (const check of [...CE_CHECKS].reverse())
    if (wanted.has(check.name)) for (const need of check.needs ?? []) wanted.add(need);
  return CE_CHECKS.filter((check) => wanted.has(check.name));
}

/** Who is not root is told that each time, in the row mapped-users. */
export const isWrong = ({ state, found }: CheckResult) => state !== 'ok' && !found.startsWith('not root: ');

/** The finding that is not ok; there must be exactly one. */
export const only = (results: CheckResult[]): CheckResult => {
  const wrong = results.filter(isWrong);
  expect(wrong).toHaveLength(1);
  return wrong[0] as CheckResult;
};

/** What is broken, the row that finds it, as what, what it says, what it advises, how to break it. */
export type Fault = [string, string, CheckState, RegExp, RegExp, () => void];

/** That the row finds this one fault, and nothing else. */
export async function findsFault(
  ce: FakeCe,
  fault: { row: string; state: CheckState; found: RegExp; advice: RegExp },
): Promise<void> {
  const wrong = only(await ce.look(fault.row));
  expect(wrong.state).toBe(fault.state);
  expect(wrong.found).toMatch(fault.found);
  expect(wrong.advice ?? '').toMatch(fault.advice);
}
