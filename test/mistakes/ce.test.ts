// Mistakes on a CE: what `check ce` says first.
import { chmodSync } from 'node:fs';
import { afterEach, beforeEach } from 'vitest';
import { type FakeCe, fakeCe } from '../unit/ce/check/fake-ce.ts';
import { checkTheCe as look } from './ce-ground.ts';
import { type Mistake, mistakes } from './table.ts';

let ce: FakeCe;
beforeEach(() => {
  ce = fakeCe();
});
afterEach(() => ce.destroy());

/** Another ARC: its validator is part of arcctl. */
function asArc7({ remove, write }: FakeCe, said = ''): void {
  remove('arc/lib/arc/arc-config-check');
  const text = said === '' ? '' : `cat >&2 <<'END'\n[2026-11-28] ${said}\nEND\nexit 1\n`;
  write('arc/sbin/arcctl', `#!/bin/sh\n[ "$3 $4" = 'config verify' ] || exit 99\n${text}`, 0o755);
}

/** As seen by somebody who has read what comes of the same mistake elsewhere. */
const lookPast =
  (...checks: string[]) =>
  (here: FakeCe) =>
    look(here, checks);

const ROWS: Mistake<FakeCe>[] = [
  { mistake: 'none', plant: () => undefined, look, text: /^$/, exit: 0 },
  {
    mistake: 'pbs_bin_path names a folder without TORQUE',
    plant: ({ edit, at }) => edit('arc.conf', /pbs_bin_path=.*/, `pbs_bin_path=${at('empty')}`),
    look,
    text: [/empty has no qsub, no qstat, no qdel, no pbsnodes/, /pbs_bin_path/],
    exit: 4,
  },
  {
    mistake: 'qsub is missing',
    plant: ({ remove }) => remove('bin/qsub'),
    look,
    text: [/bin has no qsub$/m, /install TORQUE's commands/],
    exit: 4,
  },
  {
    mistake: 'qsub is for root alone',
    plant: ({ at }) => chmodSync(at('bin/qsub'), 0o700),
    look,
    text: [/nobody cannot enter or execute .*bin\/qsub/],
    exit: 4,
  },
  {
    mistake: 'the queue has another name in TORQUE',
    plant: ({ edit }) => edit('queues', 'Queue: vmalice', 'Queue: vm_alice'),
    look,
    text: [/TORQUE has no queue vmalice; it has: vm_alice, other/, /correct the name in arc.conf/],
    exit: 4,
  },
  {
    mistake: 'the queue is not enabled',
    plant: ({ edit }) => edit('queues', 'enabled = True', 'enabled = False'),
    look,
    text: [/queue vmalice takes no jobs/, /qmgr -c "set queue vmalice enabled = True"/],
    exit: 4,
  },
  {
    mistake: 'the queue is stopped',
    plant: ({ edit }) => edit('queues', 'started = True', 'started = False'),
    look,
    text: [/queue vmalice starts no jobs/, /qmgr -c "set queue vmalice started = True"/],
    exit: 4,
  },
  {
    mistake: 'A-REX has ended, and what it ran with is left',
    plant: ({ remove }) => remove('proc/42'),
    look,
    text: [/A-REX does not run: .*arex\.cfg is left of one that has ended/, /arcctl service start/],
    exit: 0,
  },
  {
    mistake: 'an option stands twice in arc.conf',
    plant: ({ edit }) => edit('arc.conf', 'lrmsconfig=', 'pbs_bin_path=/nowhere\nlrmsconfig='),
    look,
    text: [
      /arc\.conf:10: \[lrms\] pbs_bin_path is given again \(also in .*arc\.conf:\d+\)|arc\.conf:\d+: \[lrms\] pbs_bin_path is given again \(also in .*arc\.conf:9\)/,
    ],
    exit: 0,
  },
  {
    mistake: 'a queue has two lines in [custom:vmbatch]',
    plant: ({ edit }) => edit('arc.conf', /(queue=vmalice max_vcpus=8)/, '$1\nqueue=vmalice image=demo'),
    look,
    text: [/arc\.conf:\d+: \[custom:vmbatch\] queue: .*one line for each queue \(also in .*arc\.conf:\d+\)/],
    exit: 4,
  },
  {
    mistake: 'ARC 7 adds a file of arc.conf.d with a slip',
    plant: (here) => {
      asArc7(here);
      here.write('arc.conf.d/20-vm.conf', '# ours\n[custom:vmbatch]\nmax_vcpus=many\n');
    },
    look,
    text: [/arc\.conf\.d\/20-vm\.conf:3: \[custom:vmbatch\] max_vcpus: found "many"/],
    exit: 4,
  },
  {
    mistake: 'ARC 6 does not read arc.conf.d',
    plant: ({ write }) => write('arc.conf.d/20-vm.conf', '[custom:vmbatch]\nmax_vcpus=2\n'),
    look,
    text: [/ARC 6 does not read .*20-vm\.conf/, /put what is in there into .*arc\.conf/],
    exit: 0,
  },
  {
    mistake: "ARC 7's validator finds an unknown option",
    plant: (here) =>
      asArc7(here, `[ARCCTL.Validator] [ERROR] [12209] ['imge' is not a valid option in [lrms]]`),
    look,
    text: [/arcctl: 'imge' is not a valid option in \[lrms\]/, /A-REX 7 starts all the same/],
    exit: 0,
  },
  {
    mistake: 'no LDAP server runs on the CE',
    plant: ({ write }) =>
      write(
        'bin/ldapsearch',
        '#!/bin/sh\necho "ldap_sasl_bind(SIMPLE): Can\'t contact LDAP server (-1)" >&2\nexit 255\n',
        0o755,
      ),
    look,
    text: [/ldap:\/\/127\.0\.0\.1:2135 does not answer \(.*Can't contact LDAP server/, /arc-infosys-ldap/],
    exit: 0,
  },
  {
    mistake: 'the CE publishes another host name than the one that JAliEn knows',
    plant: ({ edit }) => edit('ldif', 'URL: https://ce.example.org', 'URL: https://ce.internal'),
    look,
    text: [/JAliEn finds no share .*vmalice_alice is at ce\.internal, not at ce\.example\.org/, /444444/],
    exit: 0,
  },
  {
    mistake: 'no queue is advertised for a VO',
    plant: ({ edit }) => edit('arc.conf', 'advertisedvo=alice\n', ''),
    look: lookPast('running-configuration'),
    text: [/no queue has advertisedvo/, /advertisedvo = alice/],
    exit: 0,
  },
  {
    mistake: "the batch server's clock is ahead",
    plant: ({ edit }) => edit('nodes', /rectime=\d+/, `rectime=${Math.floor(Date.now() / 1000) + 500}`),
    look,
    text: [/the batch server is \d+ s ahead of this machine/, /time servers/],
    exit: 4,
  },
  {
    mistake: 'an option of [custom:vmbatch] is misspelt',
    plant: ({ edit }) => edit('arc.conf', 'image=demo', 'imgae=demo'),
    look,
    text: /arc\.conf:\d+: \[custom:vmbatch\] has no option "imgae" \(did you mean image\?\)/,
    exit: 4,
  },
  {
    mistake: 'a duration has no unit',
    plant: ({ edit }) => edit('arc.conf', 'image=demo', 'image=demo\nsubmit_patience=30'),
    look,
    text: /arc\.conf:\d+: \[custom:vmbatch\] submit_patience: found "30", must be .*such as "30 s"/,
    exit: 4,
  },
  {
    mistake: 'an image has capitals in its name',
    plant: ({ edit }) => edit('arc.conf', 'image=demo', 'image=Alma9'),
    look,
    text: /arc\.conf:\d+: \[custom:vmbatch\] image: found "Alma9"/,
    exit: 4,
  },
  {
    mistake: 'vmbatch is misspelt in lrms',
    plant: ({ edit }) => edit('arc.conf', 'lrms=vmbatch vmalice', 'lrms=vmbacth vmalice'),
    look,
    text: /arc\.conf:8: \[lrms\] lrms: found "vmbacth vmalice"/,
    exit: 4,
  },
  {
    mistake: 'our options stand in [lrms]',
    plant: ({ edit }) => edit('arc.conf', 'lrmsconfig=one guest a job', 'max_vcpus=4'),
    look,
    text: [/\[lrms\] max_vcpus/, /\[custom:vmbatch\]/],
    exit: 4,
  },
  {
    mistake: 'the queue has no block',
    plant: ({ edit }) => {
      edit('arc.conf', '[queue:vmalice]', '[queue:other]');
      edit('arc.conf', 'queue=vmalice', 'queue=other');
    },
    look,
    text: [/no \[queue:vmalice\] block; there are: other/, /add a line \[queue:vmalice\]/],
    exit: 4,
  },
  {
    mistake: 'pbs_server is down',
    plant: ({ write }) =>
      write(
        'bin/qstat',
        '#!/bin/sh\necho "qstat: cannot connect to server vm (errno=111) Connection refused" >&2\nexit 111\n',
        0o755,
      ),
    look,
    text: [/the batch server does not answer .*Connection refused/, /start pbs_server, or check server_name/],
    exit: 4,
  },
  {
    mistake: 'trqauthd is down',
    plant: ({ write }) =>
      write(
        'bin/qstat',
        '#!/bin/sh\necho "qstat: cannot connect to server (null) (errno=15137) could not connect to trqauthd" >&2\nexit 33\n',
        0o755,
      ),
    look,
    text: [/trqauthd does not answer/, /start trqauthd on this machine/],
    exit: 4,
  },
  {
    mistake: 'every node is offline',
    plant: ({ edit }) => edit('nodes', 'free', 'offline'),
    look,
    text: [/none of the 1 nodes of queue vmalice is up/, /pbsnodes -ln/],
    exit: 0,
  },
  {
    mistake: 'pbs_queue_node names a property that no node has',
    plant: ({ edit }) => edit('arc.conf', 'pbs_queue_node=vm', 'pbs_queue_node=vms'),
    look,
    text: [/TORQUE has 2 nodes, and none for queue vmalice/, /pbs_queue_node/],
    exit: 4,
  },
  {
    mistake: 'the control directory is not there',
    plant: ({ remove }) => remove('control'),
    look,
    text: [/control: does not exist/, /controldir/],
    exit: 4,
  },
  {
    mistake: 'a session directory is for root alone',
    plant: ({ at }) => chmodSync(at('session'), 0o700),
    look,
    text: [/nobody cannot .*session/, /enter each folder on the way/],
    exit: 4,
  },
  {
    mistake: 'the session directory is not shared',
    plant: ({ edit }) => edit('mounts', 'nfs4', 'ext4'),
    look,
    text: [/session is on ext4/, /share it, or say shared_filesystem = no/],
    exit: 0,
  },
  {
    mistake: 'jobs are mapped to an account that does not exist',
    plant: ({ edit }) => edit('arc.conf', /map_to_user=.*/, 'map_to_user=all alicegrid'),
    look,
    text: [/\[mapping\] names "alicegrid", and there is no such account/, /with the same ids/],
    exit: 4,
  },
  {
    mistake: "ARC's data directory lacks a link to us",
    plant: ({ remove }) => remove('arc/share/arc/scan-vmbatch-job'),
    look,
    text: [/share\/arc has no scan-vmbatch-job/, /ln -sf/],
    exit: 4,
  },
  {
    mistake: 'Node is too old',
    plant: ({ write }) => write('bin/node', '#!/bin/sh\necho v18.19.0\n', 0o755),
    look,
    text: [/Node v18\.19\.0/, /20\.19/],
    exit: 4,
  },
  {
    mistake: 'pbs_log_path names a folder without logs',
    plant: ({ edit, at }) => {
      // A-REX runs with it, too.
      for (const file of ['arc.conf', 'run/arex.cfg'])
        edit(file, /pbs_log_path=.*/, `pbs_log_path=${at('nologs')}`);
    },
    look,
    text: [/nologs\/\d{8}: no such file; the scan asks qstat instead/, /pbs_log_path/],
    exit: 0,
  },
];

mistakes('ce', () => ce, ROWS);
