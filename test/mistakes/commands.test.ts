// Mistakes of who works on a node by hand: what the command says.
import { type NodeGround, says, useNode } from './node-ground.ts';
import { type Mistake, mistakes } from './table.ts';

const ROWS: Mistake<NodeGround>[] = [
  {
    mistake: 'the node file is elsewhere',
    plant: () => undefined,
    look: says('node', 'status', '--config', '/etc/vmbatch/nowhere.yaml'),
    text: /node file \/etc\/vmbatch\/nowhere\.yaml: does not exist/,
    exit: 3,
  },
];

mistakes('commands', useNode('commands'), ROWS);
