// Mistakes in what the mom is told, and in what is put beside it: what `check node` says first, and what the
// log has of the job that comes before anybody checks.
import { chmodSync, chownSync, readFileSync } from 'node:fs';
import { NOBODY } from '../support/fake-hooks.ts';
import { checkTheNode, logOfAStart, type NodeGround, says, useNode } from './node-ground.ts';
import { type Mistake, mistakes } from './table.ts';

interface Planted {
  mistake: string;
  plant: (node: NodeGround) => unknown;
  /** What both say. */
  text: RegExp | readonly RegExp[];
}

/** Both looks at mistakes because of which jobs would run on the node itself. */
const STARTER: Planted[] = [
  {
    mistake: "the mom's configuration has no $job_starter",
    plant: ({ edit }) => edit('mom_priv/config', /^\$job_starter.*\n/m, ''),
    text: [
      /config has no \$job_starter/,
      /add the line "\$job_starter \/.*\/job-starter" to .*mom_priv\/config/,
    ],
  },
  {
    mistake: "the mom's $job_starter is another program",
    plant: ({ edit }) => edit('mom_priv/config', /^\$job_starter.*$/m, '$job_starter /bin/true'),
    text: [/config:2: \$job_starter is \/bin\/true/, /"\$job_starter \/.*\/job-starter"/],
  },
  {
    mistake: 'a second $job_starter takes the place of the first',
    plant: ({ edit }) => edit('mom_priv/config', /$/, '$job_starter /bin/true\n'),
    text: /config:4: \$job_starter is \/bin\/true, which takes the place of line 2/,
  },
  {
    mistake: 'the job starter is run as root',
    plant: ({ edit }) => edit('mom_priv/config', /$/, '$job_starter_run_privileged true\n'),
    text: /\$job_starter_run_privileged/,
  },
  {
    mistake: 'the job starter is gone',
    plant: ({ remove }) => remove('job-starter'),
    text: [/job-starter is not there/, /vmbatch hooks install/],
  },
  {
    mistake: 'the job starter is not executable',
    plant: ({ at }) => chmodSync(at('job-starter'), 0o644),
    text: /job-starter is not executable/,
  },
  {
    mistake: 'users cannot read the job starter',
    plant: ({ at }) => chmodSync(at('job-starter'), 0o700),
    text: [/nobody cannot read .*job-starter/, /chmod a\+r/],
  },
  {
    mistake: 'users may change the job starter',
    plant: ({ at }) => chmodSync(at('job-starter'), 0o777),
    text: /job-starter can be changed by others than root/,
  },
  {
    mistake: "Node's path in the job starter is outdated",
    plant: ({ edit }) => edit('job-starter', /^node=.*$/m, "node='/opt/node-18/bin/node'"),
    text: [/node=\/opt\/node-18\/bin\/node/, /vmbatch hooks install/],
  },
  {
    mistake: 'the job starter is of another vmbatch',
    plant: ({ edit }) => edit('job-starter', /^state=.*$/m, "state='/var/lib/vmbatch-old'"),
    text: /state.*\/var\/lib\/vmbatch-old/,
  },
  {
    mistake: 'users cannot enter the folder of the program',
    plant: ({ at }) => chmodSync(at('dist'), 0o750),
    text: [/nobody cannot read .*: .*dist is closed/, /chmod a\+rx/],
  },
  {
    mistake: 'users cannot read a part of the program',
    plant: ({ at }) => chmodSync(at('dist/lib/run.cjs'), 0o600),
    text: /nobody cannot read .*run\.cjs/,
  },
  {
    mistake: 'everybody may write to the configuration of the mom',
    plant: ({ at }) => chmodSync(at('mom_priv/config'), 0o666),
    text: [/the mom does not read .*mom_priv\/config/, /others than root may write/],
  },
];

const HOOKS: Mistake<NodeGround>[] = [
  ...['prologue', 'epilogue', 'prologue.parallel', 'epilogue.parallel', 'job-starter'].map((name) => ({
    mistake: `there is no ${name}`,
    plant: ({ remove }: NodeGround) => remove(name === 'job-starter' ? name : `mom_priv/${name}`),
    look: checkTheNode,
    text: [new RegExp(`${name} is not there`), /vmbatch hooks install/],
    exit: 3,
  })),
  {
    mistake: 'the prologue has mode 0400',
    plant: ({ at }) => chmodSync(at('mom_priv/prologue'), 0o400),
    look: checkTheNode,
    text: [/prologue has mode 0400: the mom does not run it/, /chmod 500/],
    exit: 3,
  },
  {
    mistake: 'the epilogue belongs to a user',
    plant: ({ at }) => chownSync(at('mom_priv/epilogue'), 65534, 65534),
    look: checkTheNode,
    text: /epilogue may be written to by others than root/,
    exit: 3,
  },
  {
    mistake: "the prologue is the site's own",
    plant: ({ write }) => write('mom_priv/prologue', '#!/bin/sh\nexit 0\n', 0o500),
    look: checkTheNode,
    text: /prologue is not from vmbatch: jobs get no guests/,
    exit: 3,
  },
  ...['config', 'state', 'node', 'vmbatch'].map((name) => ({
    mistake: `the prologue has another ${name}=`,
    plant: ({ at, edit }: NodeGround) => {
      edit('mom_priv/prologue', new RegExp(`^${name}=.*$`, 'm'), `${name}='/old/${name}'`);
      chmodSync(at('mom_priv/prologue'), 0o500);
    },
    look: checkTheNode,
    text: [
      new RegExp(`installed with ${name}=/old/${name}, and would be with ${name}=/`),
      /vmbatch hooks install/,
    ],
    exit: 3,
  })),
  {
    mistake: 'the hooks are of an older version',
    plant: ({ edit }) => edit('mom_priv/prologue', /asks_for_guest/g, 'asks'),
    look: checkTheNode,
    text: [/prologue is not what this version of vmbatch installs/, /vmbatch hooks install/],
    exit: 3,
  },
  {
    mistake: '$prologalarm is too short',
    plant: ({ edit }) => edit('mom_priv/config', '$prologalarm 300', '$prologalarm 20'),
    look: checkTheNode,
    text: [/\$prologalarm 20: the mom ends a prologue after 10 s/, /timeouts\.ready/, /"\$prologalarm 300"/],
    exit: 3,
  },
  {
    mistake: '$prologalarm is too short, and a job comes',
    plant: ({ edit, write }) => {
      edit('mom_priv/config', '$prologalarm 300', '$prologalarm 13');
      write('fake/hold', '');
    },
    look: logOfAStart(),
    text: [
      /no ready file|not ready|within \d s/,
      /mom_priv\/config has \$prologalarm 13: that leaves \d s for a start, and timeouts\.ready is \d+ s/,
      /write "\$prologalarm 300" into \/.*mom_priv\/config/,
    ],
    exit: 2,
  },
  {
    mistake: 'a node that is offline tests itself, and its job starter is missing',
    plant: ({ configure, edit, write }) => {
      configure({ guard: { return: 'self-test', self_test_every: '1 ms', self_test_user: NOBODY.name } });
      edit('mom_priv/config', /^\$job_starter.*\n/m, '');
      const offline = { since: 0, reason: '3 jobs in a row failed', by: 'guard', mark: 'set' };
      write('state/guard.json', JSON.stringify({ version: 1, faults: [], offline }), 0o600);
    },
    look: async (node) => {
      const { exitCode, stdout } = await node.vmbatch(['reap', '--config', node.at('node.yaml')]);
      const { offline } = JSON.parse(readFileSync(node.at('state/guard.json'), 'utf8'));
      return { where: 'reap', text: `${stdout} ${offline?.mark}`, exit: exitCode };
    },
    text: [
      /self-test failed, the node stays offline: jobs would not run in their guests here/,
      /config has no \$job_starter/,
      / set$/,
    ],
    exit: 0,
  },
  {
    mistake: 'the mom of the self-test is gone',
    plant: ({ configure, remove }) => {
      configure({ guard: { self_test_user: NOBODY.name } });
      remove('mom_priv');
    },
    look: says('node', 'self-test'),
    text: [/the mom_priv of this node's mom was not found: .*mom_priv is no directory/],
    exit: 3,
  },
  {
    mistake: 'the directory of the mom is misspelt',
    plant: () => undefined,
    look: async (node) => {
      const place = ['--config', node.at('node.yaml'), '--mom-dir', node.at('mom-priv')];
      const words = ['hooks', 'install', ...place];
      const { stderr, exitCode } = await node.vmbatch(words);
      return { where: 'hooks install', text: stderr, exit: exitCode };
    },
    text: [/mom-priv is no directory/, /--mom-dir DIR/],
    exit: 3,
  },
  {
    mistake: 'the node file is broken when a job comes',
    plant: async (node) => {
      await node.prologue(`2.${node.serverName}`);
      node.remove('log');
      node.edit('node.yaml', 'default_image:', 'defualt_image:');
    },
    look: logOfAStart(),
    text: /defualt_image: is no known key/,
    exit: 2,
  },
  {
    mistake: 'the state directory was moved, and the hooks not installed again',
    plant: ({ at, configure }) => configure({ state: at('elsewhere') }),
    look: logOfAStart(),
    text: [/installed for state: .*\/state, the node file says .*\/elsewhere/, /vmbatch hooks install/],
    exit: 2,
  },
  {
    mistake: 'the log cannot be written, and the log of the system has it',
    plant: (node) => {
      node.configure({ log: node.at('node.yaml/log') });
      node.write('fake/bin/logger', `#!/bin/sh\necho "$*" >>${node.at('system.log')}\n`, 0o755);
      node.edit('mom_priv/config', /^\$job_starter.*\n/m, '');
      node.path = `${node.at('fake/bin')}:${node.path}`;
    },
    look: async (node) => {
      const { exitCode } = await node.prologue(`1.${node.serverName}`);
      return { where: 'syslog', text: readFileSync(node.at('system.log'), 'utf8'), exit: exitCode };
    },
    text: [/-p daemon\.err -- 1\.mistakes-\S+ jobs would not run in their guests/, /no \$job_starter/],
    exit: 2,
  },
];

const ROWS = STARTER.flatMap(({ mistake, plant, text }): Mistake<NodeGround>[] => [
  { mistake: `${mistake}: check`, plant, look: checkTheNode, text, exit: 3 },
  { mistake: `${mistake}: job`, plant, look: logOfAStart(), text, exit: 2 },
  { mistake: `${mistake}: self-test`, plant, look: says('node', 'self-test'), text, exit: 3 },
]);

mistakes('mom', useNode('mom'), [...ROWS, ...HOOKS]);
