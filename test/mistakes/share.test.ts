// Mistakes with the share, and with what a site puts beside the node file: what `check node` says, or the
// node's log when a job comes.
import { chmodSync, mkdirSync } from 'node:fs';
import { logOfAStart, checkTheNode as look, type NodeGround, useNode } from './node-ground.ts';
import { type Mistake, mistakes } from './table.ts';

const share = ({ at, configure }: NodeGround, changes: object) =>
  configure({ share: { type: 'nfs', server: '10.0.2.2:/share', path: at('share'), ...changes } });

const ROWS: Mistake<NodeGround>[] = [
  { mistake: 'none', plant: () => undefined, look, text: /^$/, exit: 0 },
  { mistake: 'none, and a job comes', plant: () => undefined, look: logOfAStart(), text: /^$/, exit: 0 },
  {
    mistake: 'the mount point of the share is not there',
    plant: ({ remove }) => remove('share'),
    look,
    text: [/the share .*share cannot be used \(ENOENT\)/, /is it mounted on this node\? try: stat .*share/],
    exit: 3,
  },
  {
    mistake: 'share.path is a file',
    plant: ({ remove, write }) => {
      remove('share');
      write('share', '');
    },
    look,
    text: /the share .*share is no directory/,
    exit: 3,
  },
  {
    mistake: 'share.server has no path',
    plant: (node) => share(node, { server: '10.0.2.2' }),
    look,
    text: /node\.yaml:\d+:\d+: share\.server: found "10\.0\.2\.2", allowed: /,
    exit: 3,
  },
  {
    mistake: 'the type of the share is misspelt',
    plant: (node) => share(node, { type: 'nsf' }),
    look,
    text: /share\.type: found "nsf", allowed: nfs/,
    exit: 3,
  },
  {
    mistake: 'the directory of ready files is not for everybody to write',
    plant: ({ at }) => chmodSync(at('share/.vmbatch/ready'), 0o755),
    look: logOfAStart(),
    text: [
      /guests cannot write their ready files to .*ready \(its mode is 755\)/,
      /chmod 1777 .*\.vmbatch\/ready/,
    ],
    exit: 2,
  },
  {
    mistake: 'the directory of ready files is a file',
    plant: ({ remove, write }) => {
      remove('share/.vmbatch/ready');
      write('share/.vmbatch/ready', '');
    },
    look: logOfAStart(),
    text: /guests cannot write their ready files to .*\.vmbatch\/ready/,
    exit: 2,
  },
  {
    mistake: 'ready_directory is not on the share',
    plant: ({ at, configure }) => configure({ ready_directory: at('elsewhere') }),
    look,
    text: /ready_directory: found ".*elsewhere", allowed: a path below share\.path/,
    exit: 3,
  },
  {
    mistake: "a script of the site's is not there",
    plant: ({ at, configure }) => configure({ context: { prolog: at('prolog.sh') } }),
    look,
    text: /prolog\.sh/,
    exit: 3,
  },
  {
    mistake: "a template of the site's has a mistake",
    plant: ({ at, configure, write }) => {
      mkdirSync(at('context'));
      write('context/10-own.cloud-config.ejs', 'fine: 1\nbroken: <%= it.nonsense.x %>\n');
      configure({ context: { templates: at('context') } });
    },
    look,
    text: [/10-own\.cloud-config\.ejs/, /line 2/],
    exit: 3,
  },
  {
    mistake: 'the directory of domain templates is not there',
    plant: ({ at, configure }) =>
      configure({ hypervisor: { type: 'auto', uri: 'qemu:///fake', templates: at('domain') } }),
    look,
    text: /domain/,
    exit: 3,
  },
  {
    mistake: 'log names a file',
    plant: ({ at, configure, write }) => {
      write('logfile', '');
      configure({ log: at('logfile') });
    },
    look,
    text: /log: .*logfile is no directory/,
    exit: 3,
  },
  {
    mistake: 'disk.free_floor is larger than the disk',
    plant: ({ configure }) => configure({ disk: { free_floor: '900 TiB' } }),
    look,
    text: [/are free, disk\.free_floor is 900 TiB/, /no job starts here/],
    exit: 3,
  },
];

mistakes('share and directories', useNode('share'), ROWS);
