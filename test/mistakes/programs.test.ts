// Mistakes with the programs that hooks start, and with TORQUE's on a node: what `check node` says, or the
// node's log.
import { chmodSync, mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { folderOf } from '../../src/util/processes/find-program.ts';
import { PROGRAMS } from '../../src/util/programs.ts';
import { logOfAStart, checkTheNode as look, type NodeGround, says, useNode } from './node-ground.ts';
import { type Mistake, mistakes } from './table.ts';

/** A pbsnodes, and a guard that would use it. */
function withPbsnodes({ at, configure, write }: NodeGround, text: string, guard: object = {}): void {
  write('torque/bin/pbsnodes', `#!/bin/sh\n${text}\n`, 0o755);
  configure({ guard: { pbs_bin_path: at('torque/bin'), ...guard } });
}
/** The environment of the mom's hooks. */
const environment = ({ write }: NodeGround, path: string) =>
  write('pbs_environment', `PATH=${path}\nLANG=C\n`);

const NEEDED = PROGRAMS.flatMap(({ name, node }) => (node === undefined || name === 'virsh' ? [] : [name]));
const pathTo = ({ path }: NodeGround, program: string) => join(folderOf(program, path) ?? '', program);

const ROWS: Mistake<NodeGround>[] = [
  { mistake: 'none', plant: (node) => withPbsnodes(node, 'exit 0'), look, text: /^$/, exit: 0 },
  {
    mistake: "virsh is where the mom's PATH does not lead",
    plant: (node) => environment(node, node.at('empty')),
    look,
    text: [
      /virsh is in .*fake\/bin, and the mom's hooks look in .*empty \(.*pbs_environment\)/,
      /add .*fake\/bin to PATH/,
    ],
    exit: 3,
  },
  {
    mistake: 'virsh is not executable',
    plant: (node) => {
      chmodSync(node.at('fake/bin/virsh'), 0o644);
      environment(node, node.at('fake/bin'));
    },
    look,
    text: /virsh is in \/usr\/bin, and the mom's hooks look in .*fake\/bin/,
    exit: 3,
  },
  ...['setpriv', 'getent', 'id', 'qemu-img'].map(
    (missing): Mistake<NodeGround> => ({
      mistake: `${missing} is not in the PATH of the mom's hooks`,
      plant: (node) => {
        mkdirSync(node.at('some'));
        for (const program of [...NEEDED, 'virsh'])
          if (program !== missing) symlinkSync(pathTo(node, program), node.at(`some/${program}`));
        environment(node, node.at('some'));
      },
      look,
      text: [new RegExp(`${missing} is in /\\S*bin, and the mom's hooks look in .*some`), /add \S+ to PATH/],
      exit: 3,
    }),
  ),
  {
    mistake: 'virsh lacks a library',
    plant: ({ write }) =>
      write('fake/bin/virsh', '#!/bin/sh\necho "virsh: libvirt.so.0: cannot open" >&2\nexit 127\n', 0o755),
    look,
    text: [/fake\/bin\/virsh exited with 127: virsh: libvirt\.so\.0: cannot open/, /does not start/],
    exit: 3,
  },
  {
    mistake: 'qemu-img is not installed, and jobs come',
    plant: (node) => {
      const { path } = node;
      node.path = node.at('nowhere');
      return () => {
        node.path = path;
      };
    },
    look: logOfAStart(),
    text: /error .*qemu-img is not installed or may not be executed \(PATH=.*nowhere\)/,
    exit: 2,
  },
  {
    mistake: 'guard.pbs_bin_path names a folder without pbsnodes',
    plant: ({ at, configure }) => configure({ guard: { pbs_bin_path: at('torque/bin') } }),
    look,
    text: [
      /torque\/bin\/pbsnodes is no program: a node that fails every job stays in service/,
      /guard\.pbs_bin_path/,
    ],
    exit: 0,
  },
  {
    mistake: 'guard.node is not what TORQUE calls the node',
    plant: (node) =>
      withPbsnodes(node, 'echo "pbsnodes: Unknown node  MSG=cannot locate specified node" >&2\nexit 1', {
        node: 'wn-one',
      }),
    look,
    text: [
      /could not take this node offline: .*Unknown node/,
      /is wn-one what pbsnodes -a calls this node \(guard\.node\)/,
    ],
    exit: 0,
  },
  {
    mistake: 'trqauthd does not run on the node',
    plant: (node) =>
      withPbsnodes(node, 'echo "pbsnodes: cannot connect to server ce, error=15033 (trqauthd)" >&2\nexit 1'),
    look,
    text: [/could not take this node offline: .*cannot connect to server ce/, /server_name, trqauthd/],
    exit: 0,
  },
  {
    mistake: 'root of the node is no operator of TORQUE',
    plant: (node) => withPbsnodes(node, 'echo "pbsnodes: Unauthorized Request" >&2\nexit 159'),
    look: says('node', 'disable'),
    text: [/TORQUE was not told: .*Unauthorized Request/, /may root of this node change nodes/],
    exit: 3,
  },
];

mistakes('programs', useNode('programs'), ROWS);
