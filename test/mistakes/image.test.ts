// Mistakes with template images: what `check node` says, or the node's log when a job comes.
import { mkdirSync } from 'node:fs';
import { logOfAStart, checkTheNode as look, type NodeGround, useNode } from './node-ground.ts';
import { type Mistake, mistakes } from './table.ts';

const ROWS: Mistake<NodeGround>[] = [
  { mistake: 'none', plant: () => undefined, look, text: /^$/, exit: 0 },
  {
    mistake: 'the image is not there',
    plant: ({ remove }) => remove('fake/image.qcow2'),
    look,
    text: [/image fake: .*image\.qcow2 cannot be read \(ENOENT\)/, /correct its path in the node file/],
    exit: 3,
  },
  {
    mistake: 'the image went while jobs come',
    plant: ({ remove }) => remove('fake/image.qcow2'),
    look: logOfAStart,
    text: /error .*image fake: .*image\.qcow2 cannot be read \(ENOENT\)/,
    exit: 2,
  },
  {
    mistake: 'the image is a directory',
    plant: ({ at, remove }) => {
      remove('fake/image.qcow2');
      mkdirSync(at('fake/image.qcow2'));
    },
    look,
    text: /image fake: .*image\.qcow2 .*directory/,
    exit: 3,
  },
  {
    mistake: 'the image is raw and the node file does not say so',
    plant: ({ write }) => write('fake/image.qcow2', '\0'.repeat(1024)),
    look,
    text: [/image fake: .*image\.qcow2/, /qcow2/],
    exit: 3,
  },
];

mistakes('image', useNode('image'), ROWS);
