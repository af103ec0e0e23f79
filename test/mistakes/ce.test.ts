// Mistakes on a CE: what `check ce` says first.
import { chmodSync } from 'node:fs';
import { afterEach, beforeEach } from 'vitest';
import { type FakeCe, fakeCe } from '../unit/ce/check-fake-ce.ts';
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
];

mistakes('ce', () => ce, ROWS);
