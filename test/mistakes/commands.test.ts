// Mistakes of who works on a node by hand: what the command says.
import { chmodSync } from 'node:fs';
import { type NodeGround, says, saysToUser, useNode } from './node-ground.ts';
import { type Mistake, mistakes } from './table.ts';

/** Commands that work with what is root's alone. */
const OF_ROOT = [
  ['node', 'status'],
  ['node', 'enable'],
  ['node', 'disable'],
  ['node', 'self-test'],
  ['node', 'health'],
  ['reap'],
  ['release', '--all'],
  ['console', '1'],
  ['ssh', '1'],
  ['hooks', 'install'],
  ['image', 'list'],
  ['image', 'prepare', 'fake'],
  ['image', 'remove', 'fake'],
  ['check', 'node'],
];

const ROWS: Mistake<NodeGround>[] = [
  { mistake: 'none', plant: () => undefined, look: says('reap', '--quiet'), text: /^$/, exit: 0 },
  ...OF_ROOT.map((words) => ({
    mistake: `${words.join(' ')} is not run by root`,
    plant: () => undefined,
    look: saysToUser(...words),
    text: [/^vmbatch: node fault: .*uid 65534 \[not-root\]/, /what to do: run it as root$/],
    exit: 3,
  })),
  {
    mistake: 'the node file is elsewhere',
    plant: () => undefined,
    look: says('node', 'status', '--config', '/etc/vmbatch/nowhere.yaml'),
    text: /node file \/etc\/vmbatch\/nowhere\.yaml: does not exist/,
    exit: 3,
  },
  {
    mistake: 'a prologue is tried by hand, not by root',
    plant: ({ at }) => chmodSync(at('mom_priv/prologue'), 0o555),
    look: saysToUser('prologue'),
    text: [/prologue works with what is root's alone/, /run it as root/],
    exit: 2,
  },
  {
    mistake: 'dist was copied without a part of it',
    plant: ({ remove }) => remove('dist/share/hooks/job-starter'),
    look: (node) => {
      const places = ['--mom-dir', node.at('mom_priv'), '--job-starter', node.at('job-starter')];
      return says('hooks', 'install', ...places)(node);
    },
    text: [/the installation lacks share\/hooks\/job-starter/, /copy the dist folder as a whole/],
    exit: 3,
  },
];

mistakes('commands', useNode('commands'), ROWS);
