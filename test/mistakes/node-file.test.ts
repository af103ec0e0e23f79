// Mistakes in a node file: what `check node` says first.
import { checkTheNode as look, type NodeGround, useNode } from './node-ground.ts';
import { type Mistake, mistakes } from './table.ts';

const ROWS: Mistake<NodeGround>[] = [
  { mistake: 'none', plant: () => undefined, look, text: /^$/, exit: 0 },
  {
    mistake: 'there is none',
    plant: ({ remove }) => remove('node.yaml'),
    look,
    text: [/node\.yaml: does not exist/, /share\/examples\/node\.yaml/],
    exit: 3,
  },
  {
    mistake: 'a key is misspelt',
    plant: ({ edit }) => edit('node.yaml', 'default_image:', 'defualt_image:'),
    look,
    text: /node\.yaml:\d+:1: defualt_image: is no known key \(did you mean default_image\?\)/,
    exit: 3,
  },
  {
    mistake: 'a size has no unit',
    plant: ({ configure }) => configure({ memory: { free_floor: 512 } }),
    look,
    text: [/memory\.free_floor: found 512/, /write "512 MiB"/],
    exit: 3,
  },
  {
    mistake: 'it is indented with tabs',
    plant: ({ edit }) => edit('node.yaml', /^ +path:/m, '\tpath:'),
    look,
    text: /node\.yaml:\d+:\d+: not valid YAML: .*tab/i,
    exit: 3,
  },
  {
    mistake: 'the state directory is below a file',
    plant: ({ at, configure, write }) => {
      write('file', '');
      configure({ state: at('file/state') });
    },
    look,
    text: /state: .*file\/state cannot be used \(ENOTDIR\)/,
    exit: 3,
  },
];

mistakes('node file', useNode('node-file'), ROWS);
