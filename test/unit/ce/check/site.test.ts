// `vmbatch check ce`: each fault of TORQUE and of directories is found and named, with what to do.
import { chmodSync, mkdirSync, symlinkSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'vitest';
import { type FakeCe, type Fault, fakeCe, findsFault } from './fake-ce.ts';

let ce: FakeCe;
beforeEach(() => {
  ce = fakeCe();
});
afterEach(() => ce.destroy());

const FAULTS: Fault[] = [
  [
    'commands of TORQUE are missing',
    'torque-commands',
    'failed',
    /bin has no qstat, no qdel$/,
    /pbs_bin_path/,
    () => {
      ce.remove('bin/qdel');
      ce.remove('bin/qstat');
    },
  ],
  [
    'users cannot run a command of TORQUE',
    'torque-commands',
    'failed',
    /cannot enter or execute .*bin\/qsub/,
    /mapped user/,
    () => chmodSync(ce.at('bin/qsub'), 0o644),
  ],
  [
    'the server answers with nothing',
    'server',
    'warning',
    /qstat -B -f says nothing/,
    /log of the server/,
    () => ce.edit('server', /.*/s, ''),
  ],
  [
    'the queue does not exist',
    'queues',
    'failed',
    /TORQUE has no queue vmalice; it has: vmother, other/,
    /create queue vmalice/,
    () => ce.edit('queues', 'vmalice', 'vmother'),
  ],
  [
    'the queue takes no jobs',
    'queues',
    'failed',
    /vmalice takes no jobs/,
    /set queue vmalice enabled = True/,
    () => ce.edit('queues', 'enabled = True', 'enabled = False'),
  ],
  [
    'the queue starts no jobs',
    'queues',
    'failed',
    /vmalice starts no jobs/,
    /set queue vmalice started = True/,
    () => ce.edit('queues', 'started = True', 'started = False'),
  ],
  [
    'no node has the property of the queue',
    'nodes',
    'failed',
    /2 nodes, and none for queue vmalice/,
    /pbs_queue_node/,
    () => ce.edit('arc.conf', 'pbs_queue_node=vm', 'pbs_queue_node=vmx'),
  ],
  [
    'every node is down',
    'nodes',
    'warning',
    /none of the 1 nodes of queue vmalice is up/,
    /pbsnodes -l/,
    () => ce.edit('nodes', 'free', 'offline'),
  ],
  [
    'ended jobs are forgotten soon, and there is a log',
    'keep-completed',
    'warning',
    /keep_completed is 30, at least 60/,
    /set server keep_completed/,
    () => ce.edit('server', 'keep_completed = 300', 'keep_completed = 30'),
  ],
  [
    'ended jobs are forgotten soon, and there is no log',
    'keep-completed',
    'failed',
    /not set.*gone before/,
    /set server keep_completed/,
    () => {
      ce.edit('server', '    keep_completed = 300\n', '');
      ce.remove('logs');
    },
  ],
  [
    'the queue forgets jobs sooner than the server',
    'keep-completed',
    'warning',
    /queue vmalice: keep_completed is 5/,
    /set queue vmalice/,
    () => ce.edit('queues', 'enabled', 'keep_completed = 5\n    enabled'),
  ],
  [
    'TORQUE tries again for ever',
    'requeue',
    'warning',
    /at once and for ever/,
    /disable_automatic_requeue/,
    () => ce.edit('server', /.*disable_automatic_requeue.*\n/, ''),
  ],
  [
    'the log of the server has no file of today',
    'server-log',
    'warning',
    /logs\/\d{8}: no such file; the scan asks qstat/,
    /pbs_log_path/,
    () => {
      ce.remove('logs');
      ce.write('logs/20010101', 'old\n');
    },
  ],
  [
    'the control directory does not exist',
    'control-directory',
    'failed',
    /control: does not exist/,
    /controldir/,
    () => ce.remove('control'),
  ],
  [
    'others can write to the control directory',
    'control-directory',
    'failed',
    /can be written by others.*777/,
    /chmod 0755/,
    () => chmodSync(ce.at('control'), 0o777),
  ],
  [
    'A-REX has not made its folders yet',
    'control-directory',
    'warning',
    /no processing/,
    /start A-REX/,
    () => ce.remove('control/processing'),
  ],
  [
    'a session directory does not exist',
    'session-directories',
    'failed',
    /gone does not exist/,
    /mount the share/,
    () => ce.edit('arc.conf', /(sessiondir=.*)/, `$1\nsessiondir=${ce.at('gone')}`),
  ],
  [
    'a session directory is on a local disk',
    'session-directories',
    'warning',
    /session is on ext4/,
    /share it, or say shared_filesystem = no/,
    () => ce.edit('mounts', 'nfs4', 'ext4'),
  ],
  [
    'session directories are in the homes of users',
    'session-directories',
    'skipped',
    /homes of users/,
    /^$/,
    () => ce.edit('arc.conf', /sessiondir=.*/, 'sessiondir=*'),
  ],
  [
    'ENV/VMBATCH is not enabled',
    'runtime-environments',
    'warning',
    /ENV\/VMBATCH is not enabled/,
    /ln -s .*program\/share\/rte\/ENV\/VMBATCH .*share\/arc\/rte\/ENV\/ && arcctl rte enable ENV\/VMBATCH$/,
    () => ce.remove('control/rte'),
  ],
  [
    'a default runtime environment leads to nothing',
    'runtime-environments',
    'warning',
    /rte\/default\/APPS\/X leads nowhere: no job gets it/,
    /arcctl rte undefault APPS\/X/,
    () => {
      mkdirSync(ce.at('control/rte/default/APPS'), { recursive: true });
      symlinkSync('/no/such/script', ce.at('control/rte/default/APPS/X'));
    },
  ],
];

describe('faults of TORQUE and of directories', () => {
  it.each(FAULTS)('%s', async (_, row, state, found, advice, breakIt) => {
    breakIt();
    await findsFault(ce, { row, state, found, advice });
  });
});
