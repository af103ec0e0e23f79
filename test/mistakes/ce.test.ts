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
];

mistakes('ce', () => ce, ROWS);
