// Mistakes with libvirt and with the network of guests: what `check node` says, or the node's log when a job
// comes.
import { logOfAStart, checkTheNode as look, type NodeGround, useNode } from './node-ground.ts';
import { type Mistake, mistakes } from './table.ts';

const network = (node: NodeGround, type: string, name: string) =>
  node.configure({ network: { type, name, addressing: 'dhcp' } });

/** A virsh that answers a command with what libvirt's own would say, and any other with nothing. */
function virsh(node: NodeGround, answers: Record<string, { says?: string; fails?: string }>): void {
  const cases = Object.entries(answers).map(([command, { says = '', fails }]) => {
    const end = fails === undefined ? '' : `echo '${fails}' >&2; exit 1; `;
    return `*' ${command} '*) echo '${says}'; ${end};;`.replace('; ;;', ' ;;');
  });
  node.write('fake/bin/virsh', `#!/bin/sh\ncase " $* " in\n${cases.join('\n')}\nesac\n`, 0o755);
}
const noSocket = (why: string) => ({
  fails: `error: failed to connect to the hypervisor
error: Failed to connect socket to "/var/run/libvirt/libvirt-sock": ${why}`,
});

const ROWS: Mistake<NodeGround>[] = [
  { mistake: 'none', plant: () => undefined, look, text: /^$/, exit: 0 },
  {
    mistake: 'the bridge is not there',
    plant: (node) => network(node, 'bridge', 'vmb-none'),
    look,
    text: [/there is no bridge vmb-none on this node; bridges: /, /ip link add vmb-none type bridge$/],
    exit: 3,
  },
  {
    mistake: 'network.name is an interface, not a bridge',
    plant: (node) => network(node, 'bridge', 'lo'),
    look,
    text: [/lo is an interface of this node, and no bridge/, /correct network\.name/],
    exit: 3,
  },
  {
    mistake: 'a bridge needs a name',
    plant: ({ configure }) => configure({ network: { type: 'bridge' } }),
    look,
    text: /node\.yaml:\d+:\d+: network\.name: is missing, required/,
    exit: 3,
  },
  {
    mistake: "libvirt's network is not active",
    plant: (node) => {
      network(node, 'libvirt', 'guests');
      virsh(node, { 'net-info': { says: 'Name:           guests\nActive:         no\nAutostart:      no' } });
    },
    look,
    text: [/the network guests of libvirt is not active/, /virsh -c qemu:\/\/\/fake net-start guests/],
    exit: 3,
  },
  {
    mistake: "libvirt's network has another name",
    plant: (node) => {
      network(node, 'libvirt', 'guest');
      virsh(node, {
        'net-info': { fails: 'error: failed to get network "guest"' },
        'net-list': { says: 'default\nguests' },
      });
    },
    look,
    text: [/libvirt has no network guest; networks: default, guests/, /did you mean guests\?/],
    exit: 3,
  },
  {
    mistake: 'libvirtd does not run',
    plant: (node) => virsh(node, { list: noSocket('No such file or directory') }),
    look,
    text: [
      /libvirt at qemu:\/\/\/fake cannot be reached: .*libvirt-sock": No such file or directory/,
      /is libvirtd running on this node\? try: virsh -c qemu:\/\/\/fake version/,
    ],
    exit: 3,
  },
  {
    mistake: 'the socket of libvirtd may not be used',
    plant: (node) => virsh(node, { list: noSocket('Permission denied') }),
    look,
    text: /libvirt at qemu:\/\/\/fake cannot be reached: .*libvirt-sock": Permission denied/,
    exit: 3,
  },
  {
    mistake: 'libvirtd went, and jobs come',
    plant: (node) =>
      virsh(node, {
        create: noSocket('Connection refused'),
        domcapabilities: { says: '<domainCapabilities/>' },
      }),
    look: logOfAStart(),
    text: /error .*libvirt at qemu:\/\/\/fake cannot be reached: .*libvirt-sock": Connection refused/,
    exit: 2,
  },
];

mistakes('network', useNode('network'), ROWS);
