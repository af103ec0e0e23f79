// What keeps a guest from its work, though the node file is right: its disk, its image, its share. What is
// read first when a job comes, or of a check.
import { chmodSync, renameSync } from 'node:fs';
import { logOfAStart, checkTheNode as look, type NodeGround, useNode } from './node-ground.ts';
import { type Mistake, mistakes } from './table.ts';

/** Lets virsh say something else to some commands.
 * @param answers what it prints, by the command */
function virshSays(node: NodeGround, answers: Record<string, string>): void {
  const own = node.at('fake/bin/virsh.own');
  renameSync(node.at('fake/bin/virsh'), own);
  const cases = Object.entries(answers).map(
    ([command, text]) => `*" ${command} "*) cat <<'END'\n${text}\nEND\n  exit ;;`,
  );
  const script = `#!/bin/sh\ncase " $* " in\n${cases.join('\n')}\nesac\nexec ${own} "$@"\n`;
  node.write('fake/bin/virsh', script, 0o755);
}
/** A guest that does not come to its start-up service, and what libvirt says of it. */
function stoppedGuest(node: NodeGround, state: string, diskErrors: string): void {
  node.configure({ timeouts: { ready: '30 s' } });
  node.write('fake/hold', '');
  virshSays(node, { domstate: state, domblkerror: diskErrors });
}
const asAccount = (uid: number) => `<capabilities><host><secmodel>
<model>dac</model><doi>0</doi>
<baselabel type='kvm'>+${uid}:+${uid}</baselabel><baselabel type='qemu'>+${uid}:+${uid}</baselabel>
</secmodel></host></capabilities>`;

const ROWS: Mistake<NodeGround>[] = [
  { mistake: 'none', plant: () => undefined, look, text: /^$/, exit: 0 },
  {
    mistake: "the node's disk is full while a guest boots",
    plant: (node) => stoppedGuest(node, 'paused (I/O error)', 'vda: no space'),
    look: logOfAStart(),
    text: [
      /error .*has stopped the guest, since it could not write to its disk \(I\/O error; vda: no space\)/,
      /state has [\d,.]+ \wi?B free/,
      /make room on that disk, or raise disk\.free_floor/,
    ],
    exit: 2,
  },
  {
    mistake: "the node's disk fails while a guest boots",
    plant: (node) => stoppedGuest(node, 'paused (I/O error)', 'vda: unspecified error'),
    look: logOfAStart(),
    text: /error .*could not write to its disk \(I\/O error; vda: unspecified error\).*code=disk-failed/,
    exit: 2,
  },
  {
    mistake: 'somebody has stopped the guest with virsh suspend',
    plant: (node) => stoppedGuest(node, 'paused (user)', ''),
    look: logOfAStart(),
    text: /error .*has stopped the guest \(paused: user\).*domstate --reason/,
    exit: 2,
  },
  {
    mistake: 'the guest service of the image does not start',
    plant: (node) => {
      node.configure({ timeouts: { ready: '3 s' } });
      node.write('fake/hold', '');
    },
    look: logOfAStart(),
    text: /error .*the guest wrote no ready file .* within 3 s/,
    exit: 2,
  },
  {
    mistake: 'the image lies in a directory that QEMU may not enter',
    plant: (node) => {
      chmodSync(node.at('fake'), 0o700);
      virshSays(node, { capabilities: asAccount(65_534) });
    },
    look,
    text: [/image fake: QEMU \(uid 65534\) cannot get through .*\/fake/, /chmod o\+x .*\/fake/],
    exit: 3,
  },
  {
    mistake: 'the state directory is for root alone, and QEMU is not root',
    plant: (node) => {
      chmodSync(node.at('state'), 0o700);
      virshSays(node, { capabilities: asAccount(65_534) });
    },
    look,
    text: /state.*(cannot get through|0711|mode)/,
    exit: 3,
  },
  {
    mistake: 'the share is not mounted on the node',
    plant: (node) =>
      node.configure({ share: { type: 'nfs', server: '192.0.2.7:/export', path: node.at('share') } }),
    look,
    text: [
      /own file system .*192\.0\.2\.7:\/export is another machine's/,
      /mount 192\.0\.2\.7:\/export there/,
    ],
    exit: 3,
  },
  {
    mistake: 'the share is not mounted on the node, and jobs come',
    plant: (node) =>
      node.configure({ share: { type: 'nfs', server: '192.0.2.7:/export', path: node.at('share') } }),
    look: logOfAStart(),
    text: /error .*192\.0\.2\.7:\/export is another machine's.*mount 192\.0\.2\.7:\/export there/,
    exit: 2,
  },
  {
    mistake: 'CernVM-FS has no proxy that answers',
    plant: (node) =>
      node.edit(
        'fake/lib/guest.sh',
        'mount_repositories() { :; }',
        `mount_repositories() { note 'repository alice.cern.ch is not mounted (proxy none): no route'; }`,
      ),
    look: logOfAStart(),
    text: /warn .*the guest is ready, but says: repository alice\.cern\.ch is not mounted \(proxy none\)/,
    exit: 0,
  },
];

mistakes('what keeps a guest from its work', useNode('guest'), ROWS);
